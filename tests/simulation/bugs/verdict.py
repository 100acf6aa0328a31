"""What a run with a bug came to, and what may be called a proof."""

from __future__ import annotations

import msgspec


class Verdict(msgspec.Struct, frozen=True):
    """How a run ended."""

    is_found: bool
    """Something said that something is wrong."""
    how: str = ""
    """What did: checker, assertion, hang, or the name of an error; `broken` if it is the bug that
    does not work. Empty for a clean run."""
    words: str = ""
