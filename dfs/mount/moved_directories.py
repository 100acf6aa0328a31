"""Directories that another mount renamed: their old names leave the kernel's cache.

A kernel lets a directory have one place. When a lookup finds it in another, Linux moves its old
entry there, but cannot while it holds the lock of renames: a rename of such a directory, from
directory to directory, would fail with ESTALE (`d_splice_alias`, fs/dcache.c), its own second
attempt too. With the old entry dropped there is nothing to move.

What somebody has open or as working directory keeps its entry, dropped or not: there the kernel's
answer stays.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING

import pyfuse3
import trio

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

Place = tuple[int, bytes]
DROP_PATIENCE_S = 0.02
"""A call that found a moved directory waits this long at most. What holds it up may be the very
system call that this call is part of. Then the old name goes when that lets go of its locks, not
always before it tries again: such a rename can still fail."""
DROPS_AT_ONCE_MAX = 4


class MovedDirectories:
    """Where the kernel knows each directory to be: a place is the parent's node id and the name."""

    def __init__(self, drop: Callable[[int, bytes], None] = pyfuse3.invalidate_entry) -> None:
        self._drop_name = drop
        self._places: dict[int, Place] = {}
        self._nodes: dict[Place, int] = {}
        self._counts: Counter[int] = Counter()
        self._limiter = trio.CapacityLimiter(DROPS_AT_ONCE_MAX)
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Drop names, in threads: the kernel may make them wait for a request that is not answered
        yet. Returns when cancelled, and leaves to the kernel what waits."""
        async with trio.open_nursery() as self._nursery:
            await trio.sleep_forever()

    def told(self, node_id: int, place: Place) -> None:
        """The kernel learns of it by an answer, and counts that (FUSE_FORGET takes counts back)."""
        self._counts[node_id] += 1
        self._put(node_id, place)

    def forget(self, node_id: int, count: int) -> None:
        """The kernel takes back so many answers. What comes late must not hide a newer one."""
        self._counts[node_id] -= count
        if self._counts[node_id] <= 0:
            del self._counts[node_id]
            self._take(node_id)

    def renamed(self, old: Place, new: Place) -> None:
        """The kernel itself renamed whatever is at `old`, or exchanged it with what is at `new`."""
        moved, replaced = self._nodes.get(old), self._nodes.get(new)
        for node_id, place in ((replaced, old), (moved, new)):
            if node_id is not None:
                self._put(node_id, place)

    async def found(self, node_id: int, place: Place) -> None:
        """A lookup is about to tell the kernel of this place (`told`)."""
        before = self._places.get(node_id, place)
        self.told(node_id, place)
        if before == place or self._nursery is None:
            return
        dropped = trio.Event()
        self._nursery.start_soon(self._drop, before, dropped)
        with trio.move_on_after(DROP_PATIENCE_S):
            await dropped.wait()

    def _put(self, node_id: int, place: Place) -> None:
        self._take(node_id)
        self._places[node_id] = place
        self._nodes[place] = node_id

    def _take(self, node_id: int) -> None:
        place = self._places.pop(node_id, None)
        if place is not None and self._nodes.get(place) == node_id:
            del self._nodes[place]

    async def _drop(self, place: Place, dropped: trio.Event) -> None:
        def drop() -> None:
            try:
                self._drop_name(*place)
            except OSError as error:
                log.debug("%r in %d is not cached: %s", place[1], place[0], error)

        await trio.to_thread.run_sync(drop, limiter=self._limiter, abandon_on_cancel=True)
        dropped.set()
