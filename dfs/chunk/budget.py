"""A number of bytes that may be in memory at once, shared first come, first served."""

from __future__ import annotations

from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class ByteBudget:
    """Makes whoever would exceed `limit_bytes` wait. A single large piece may exceed it alone."""

    def __init__(self, limit_bytes: int) -> None:
        assert limit_bytes > 0
        self._limit_bytes = limit_bytes
        self._held_bytes = 0
        self._waiting: deque[tuple[int, trio.Event]] = deque()

    @property
    def held_bytes(self) -> int:
        return self._held_bytes

    @asynccontextmanager
    async def hold(self, size: int) -> AsyncIterator[None]:
        """Hold `size` bytes of the budget, from 0, for as long as the block runs."""
        assert size >= 0
        await self._take(size)
        try:
            yield
        finally:
            self._held_bytes -= size
            assert self._held_bytes >= 0
            self._admit()

    async def _take(self, size: int) -> None:
        if not self._waiting and self._has_room(size):
            self._held_bytes += size
            return
        ticket = (size, trio.Event())
        self._waiting.append(ticket)
        try:
            await ticket[1].wait()
        except BaseException:
            if ticket[1].is_set():
                self._held_bytes -= size
            else:
                self._waiting.remove(ticket)
            self._admit()
            raise

    def _admit(self) -> None:
        while self._waiting and self._has_room(self._waiting[0][0]):
            size, is_admitted = self._waiting.popleft()
            self._held_bytes += size
            is_admitted.set()

    def _has_room(self, size: int) -> bool:
        return self._held_bytes == 0 or self._held_bytes + size <= self._limit_bytes
