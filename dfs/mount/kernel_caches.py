"""What the kernel remembers of this mount, and for how long: never longer than a lease (I4).

    the kernel remembers    | told it by                     | forgets it
    an inode's attributes   | every answer that shows them   | when told (`forget`), or in time
    what a name leads to    | lookups, also of absent names  | all names together, by one epoch

The times are those of the lease, so that a mount whose process stands still is right all the same:
the kernel asks again, and waits. They are short, because the kernel goes on for so long when the
process has died; this process remembers longer.

Names given by a listing are looked up once before they are trusted: the kernel dates them when it
reads the answer, which may be after their recall.

Forgetting takes no lock that a request under way could hold: attributes are marked, and the epoch
is counted up. Pages follow the attributes: the kernel drops them when it sees other ones.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Final

import pyfuse3
import trio

from dfs.limits import KERNEL_MEMORY_S

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from dfs.types import InodeId

log = logging.getLogger(__name__)

FORGET_PATIENCE_S: Final = 1.0
"""More than any of it takes, unless the mount is just being taken off."""
TOLD_MAX: Final = 1 << 18
"""Inodes of which it is noted that the kernel may remember them; more are not told for long."""


class KernelCaches:
    """`advance_epoch` makes all names doubtful, or says that this kernel cannot (False)."""

    def __init__(
        self,
        advance_epoch: Callable[[], bool],
        mark_attributes: Callable[[int], None] = lambda ino: pyfuse3.invalidate_inode(
            pyfuse3.InodeT(ino), attr_only=True
        ),
        node_id: Callable[[InodeId], int] = int,
    ) -> None:
        self._advance_epoch = advance_epoch
        self._mark_attributes = mark_attributes
        self._node_id = node_id
        self._has_epochs = False
        self._attributes: dict[InodeId, float] = {}
        """Inode → until when the kernel may remember its attributes."""
        self._names: dict[InodeId, float] = {}
        """Directory → until when it may remember any name in it."""
        self._forgetting = trio.Lock()
        """Who comes second waits for the epoch that the first has begun."""
        self._is_over = False

    async def start(self) -> None:
        """Find out what this kernel can; before the first request is answered."""
        try:
            self._has_epochs = await trio.to_thread.run_sync(self._advance_epoch)
        except OSError as error:
            log.info("names are not cached: %s", error)

    # ------------------------------------------------------------ telling

    def attributes_s(self, ino: InodeId, good_s: float) -> float:
        """For how long the kernel is told to remember the attributes, of `good_s` that it might."""
        return _note(self._attributes, ino, good_s)

    def name_s(self, parent: InodeId, good_s: float) -> float:
        """The same for what a name in a directory leads to."""
        return _note(self._names, parent, good_s) if self._has_epochs else 0

    def note_rename(self, source: InodeId, target: InodeId) -> None:
        """The kernel is about to move names between these directories. It goes on to remember them
        where they are then, for as long as it was told for where they were."""
        until_s = max(self._names.get(source, 0.0), self._names.get(target, 0.0))
        if until_s:
            self._names[source] = self._names[target] = until_s

    # ------------------------------------------------------------ forgetting

    async def forget(self, inos: Collection[InodeId] | None) -> None:
        """Return when the kernel asks again about these inodes, or all, and about every name."""
        async with self._forgetting:
            if not self._is_over:
                await self._forget(inos)

    async def stop(self) -> None:
        """The mount is off: its kernel remembers nothing, and is not to be told anything."""
        async with self._forgetting:
            self._is_over = True

    async def _forget(self, inos: Collection[InodeId] | None) -> None:
        now_s = trio.current_time()
        asked: Iterable[InodeId] = list(self._attributes) if inos is None else inos
        told = {ino: self._attributes.pop(ino, 0.0) for ino in asked}
        doubtful = [ino for ino, until_s in told.items() if until_s > now_s]
        parents: Iterable[InodeId] = list(self._names) if inos is None else inos
        has_names = any(self._names.pop(ino, 0.0) > now_s for ino in parents)
        if has_names:
            self._names.clear()  # with the epoch all of them go
        if not doubtful and not has_names:
            return

        def tell_kernel() -> None:
            if has_names:
                self._advance_epoch()
            for ino in doubtful:
                # Not there: the kernel has dropped the inode already.
                with contextlib.suppress(FileNotFoundError):
                    self._mark_attributes(self._node_id(ino))

        try:
            with trio.move_on_after(FORGET_PATIENCE_S):
                await trio.to_thread.run_sync(tell_kernel, abandon_on_cancel=True)
        except OSError as error:
            log.info("the kernel cannot be told to forget: %s", error)


def _note(told: dict[InodeId, float], ino: InodeId, good_s: float) -> float:
    good_s = min(good_s, KERNEL_MEMORY_S)
    if good_s <= 0:
        return 0
    now_s = trio.current_time()
    if len(told) >= TOLD_MAX and ino not in told:
        for past in [each for each, until_s in told.items() if until_s < now_s]:
            del told[past]
        if len(told) >= TOLD_MAX:
            return 0
    told[ino] = now_s + good_s
    return good_s
