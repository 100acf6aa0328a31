"""What keeps the event loop alive without the tap: a signal that ends a read of nothing."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

UNBLOCK_S = 1.0


@contextlib.contextmanager
def unblocked_regularly() -> Iterator[None]:
    """Let a signal interrupt a read of /dev/fuse that waits for nothing.

    The descriptor is a blocking one: a request that is withdrawn between poll and read would stop
    the event loop until the next request, and with it the session's keep-alives. libfuse gives up
    such a read with EINTR, and pyfuse3 then polls again. (The tap makes the descriptor a
    non-blocking one.)
    """

    def no_work(_number: int, _frame: FrameType | None) -> None:
        return None

    before = signal.signal(signal.SIGALRM, no_work)
    signal.setitimer(signal.ITIMER_REAL, UNBLOCK_S, UNBLOCK_S)
    try:
        yield
    finally:
        # Not later: a process that ends takes handlers away first, and the signal would kill it.
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
