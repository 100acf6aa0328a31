"""Asks several servers for the same, some at once, the next when one fails or is slow."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

import trio

from dfs.errors import DfsError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from dfs.types import ChunkServer

T = TypeVar("T")


@dataclass(eq=False)
class Race(Generic[T]):
    """Who succeeded, with what, and who failed, why; each in the order of ending."""

    servers: Sequence[ChunkServer]
    attempt: Callable[[ChunkServer], Awaitable[T]]
    wanted: int
    """Successes after which the race is over."""
    hedge_s: float
    """A server that takes longer is joined by the next one, not given up."""
    successes: list[tuple[ChunkServer, T]] = field(default_factory=list)
    failures: list[tuple[ChunkServer, DfsError]] = field(default_factory=list)
    slow: list[ChunkServer] = field(default_factory=list)
    """Who had not answered when it was over, though there was time."""
    _running: dict[ChunkServer, float] = field(default_factory=dict)
    """Server → when it becomes slow."""
    _changed: trio.Event = field(default_factory=trio.Event)

    async def run(self) -> None:
        """Return with `wanted` successes, or when every server has ended. Raises nothing."""
        assert self.wanted > 0
        waiting = deque(self.servers)
        async with trio.open_nursery() as nursery:
            while len(self.successes) < self.wanted:
                while waiting and self._quick_count() < self.wanted:
                    server = waiting.popleft()
                    self._running[server] = trio.current_time() + self.hedge_s
                    nursery.start_soon(self._try, server)
                if not self._running:
                    break
                await self._wait_for_change()
            now_s = trio.current_time()
            self.slow = [server for server, slow_s in self._running.items() if slow_s <= now_s]
            nursery.cancel_scope.cancel()
        assert len(self.successes) <= len(self.servers)

    def _quick_count(self) -> int:
        now_s = trio.current_time()
        return len(self.successes) + sum(slow_s > now_s for slow_s in self._running.values())

    async def _wait_for_change(self) -> None:
        now_s = trio.current_time()
        slow_s = min((s for s in self._running.values() if s > now_s), default=float("inf"))
        self._changed = trio.Event()
        with trio.move_on_at(slow_s):
            await self._changed.wait()

    async def _try(self, server: ChunkServer) -> None:
        try:
            value = await self.attempt(server)
        except DfsError as error:
            self.failures.append((server, error))
        else:
            self.successes.append((server, value))
        del self._running[server]
        self._changed.set()
        assert server not in self._running

    def causes(self) -> str:
        """Every failure with its server, for people."""
        return "; ".join(
            f"{server.address}: {type(error).__name__}: {error}" for server, error in self.failures
        )
