"""Waiting for what nobody announces."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

POLL_S = 0.02


async def becomes_true(is_so: Callable[[], bool], patience_s: float) -> bool:
    """Whether it became so within the time."""
    deadline_s = trio.current_time() + patience_s
    while not (is_now := is_so()) and trio.current_time() < deadline_s:  # noqa: ASYNC110
        await trio.sleep(POLL_S)
    return is_now
