"""Makes the order in which trio runs its tasks a function of a seed.

Two private names of trio, of the pinned version; `test_trio_switches.py` guards them. With the
switch on, trio sorts each batch of runnable tasks by their number before it shuffles it with its
own random source, which is seeded here.
"""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

from trio._core import _run as trio_run

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def seeded_scheduler(seed: str) -> Iterator[None]:
    """Run trio inside; cyclic garbage is collected before and after, not at some moment within."""
    was_deterministic = trio_run._ALLOW_DETERMINISTIC_SCHEDULING
    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    trio_run._r.seed(seed)
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        trio_run._ALLOW_DETERMINISTIC_SCHEDULING = was_deterministic  # type: ignore[misc]
