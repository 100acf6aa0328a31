"""Who waits for the next request, and how: pyfuse3's waiting, with a poll before it sleeps.

A sleeping daemon is woken in 50 to 100 µs, which is most of what a small request costs. So whoever
has answered one looks for the next for a moment, outside the interpreter's lock. The tap decides
when that pays: never while a request is being worked on, never in an idle mount.

`Turns` stands in for the module `trio` inside pyfuse3, as `pyfuse3.asyncio` does: pyfuse3 takes a
lock, waits until the descriptor is readable, gives the lock back and reads. Here a task that found
a request by polling does neither: another task sleeps with the lock meanwhile, and stays asleep.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import trio

if TYPE_CHECKING:
    from dfs.mount.fusetap.extension import Tap


class Turns:
    """pyfuse3's lock around the wait, and the wait itself."""

    def __init__(self, tap: Tap) -> None:
        self._tap = tap
        self._lock = trio.Lock()
        self._is_found = False
        """The running task shall read at once. It is taken back before that task awaits."""

    async def __aenter__(self) -> None:
        verdict = self._tap.poll()
        if verdict == self._tap.YIELD:
            # Reads after this without looking: pyfuse3 must see whether it was told to end.
            await trio.lowlevel.checkpoint()
        if verdict != self._tap.SLEEP:
            assert not self._is_found
            self._is_found = True
            return
        try:
            self._lock.acquire_nowait()
        except trio.WouldBlock:
            await self._lock.acquire()

    async def __aexit__(self, *_exc: object) -> None:
        if self._is_found:
            self._is_found = False
        else:
            self._lock.release()

    async def wait_readable(self, descriptor: int) -> None:
        if not self._is_found:
            await trio.lowlevel.wait_readable(descriptor)


def trio_with(turns: Turns) -> Any:
    """What pyfuse3 shall take for the module trio."""
    lowlevel = SimpleNamespace(**vars(trio.lowlevel))
    lowlevel.wait_readable = turns.wait_readable
    whole = SimpleNamespace(**vars(trio))
    whole.lowlevel = lowlevel
    whole.Lock = lambda: turns
    return whole
