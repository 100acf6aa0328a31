"""Loads the tap, before pyfuse3 is: only then does pyfuse3 make its session through it.

`dfs.mount` imports this first of all. What can go wrong is kept as words and never raised: without
the tap a mount is slower, not worse.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from dfs.mount.fusetap._tap import Status


class Tap(Protocol):
    """The functions of the extension (`_tap.c`)."""

    SLEEP: int
    READY: int
    YIELD: int

    def arm(self, flags_added: int, poll_ns: int, turn_ns: int, /) -> None:
        """Tap the session that pyfuse3 makes next."""

    def poll(self) -> int:
        """READY: a request is there; SLEEP: none, and none comes soon; YIELD: others must run."""

    def last_request(self) -> bytes:
        """The head of the request that was read last (`requests`)."""

    def notify(self, code: int, payload: bytes, /) -> None:
        """Tell the kernel; may wait for it. Raises OSError."""

    def status(self) -> Status:
        """What was agreed, and counters."""


SWITCH = "DFS_FUSE_TAP"
"""Environment variable; "0" mounts without the tap, to compare or to rule it out."""


def _load() -> tuple[Tap | None, str]:
    """The extension, or why there is none to use."""
    if os.environ.get(SWITCH) == "0":
        return None, f"switched off ({SWITCH}=0)"
    if "pyfuse3" in sys.modules:
        return None, "pyfuse3 was loaded before it"
    flags = sys.getdlopenflags()
    sys.setdlopenflags(flags | os.RTLD_GLOBAL)
    try:
        from dfs.mount.fusetap import _tap
    except ImportError as error:
        return None, f"the extension cannot be loaded: {error}"
    finally:
        sys.setdlopenflags(flags)
    if not _tap.is_in_front():
        return None, "another library has libfuse's symbols already"
    return _tap, ""


TAP, WHY_NOT = _load()
