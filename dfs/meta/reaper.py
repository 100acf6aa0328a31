"""Takes orphans apart: inodes without a name that nobody holds open.

An op that takes the last name of an inode nobody holds removes it in the same batch, if what that
needs is in memory and fits. Everything else is taken apart here, a bounded step per commit, so a
crash in between leaves a smaller orphan. After a restart nothing is taken apart until every session
that is known has returned with what it holds, or has expired.
"""

from __future__ import annotations

import errno
import logging
from collections import deque
from typing import TYPE_CHECKING, Final

import trio

from dfs.core.namespace.apply import apply
from dfs.core.namespace.keys import inode_key, orphan_key
from dfs.core.namespace.ops import Reclaim
from dfs.core.namespace.records import Inode, Orphan
from dfs.core.namespace.view import Missing, Overlay
from dfs.errors import FsError
from dfs.limits import OP_RECORDS_MAX
from dfs.meta.committer import SETBACKS
from dfs.types import Credentials, InodeId

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dfs.core.sessions import Holds, Lifetimes
    from dfs.environment import Environment
    from dfs.meta.committer import Committer

log = logging.getLogger(__name__)

WORKERS: Final = 8
RETRY_S: Final = 1.0
_ROOT_USER: Final = Credentials(0, 0)


class Reaper:
    """Knows the orphans. `work` carries it; WORKERS tasks of it may run."""

    def __init__(
        self,
        committer: Committer,
        holds: Holds,
        lifetimes: Lifetimes,
        environment: Environment,
        orphans: Iterable[InodeId],
    ) -> None:
        self._committer = committer
        self._holds = holds
        self._lifetimes = lifetimes
        self._now_ns = environment.now_ns
        self._fault_point = environment.fault_point
        self._orphans: dict[InodeId, None] = dict.fromkeys(orphans)
        """Inodes that have no name, or had none in a batch that failed."""
        self._queue: deque[InodeId] = deque(self._orphans)
        self._has_work = trio.Event()

    @property
    def orphan_count(self) -> int:
        return len(self._orphans)

    def is_free(self, ino: InodeId) -> bool:
        """Nobody holds it, and nobody can come back who did."""
        return self._lifetimes.is_everyone_back and not self._holds.is_held(ino)

    def is_doomed(self, ino: InodeId) -> bool:
        """It has no name, and nobody holds it: it may be half gone already."""
        return ino in self._orphans and not self._holds.is_held(ino)

    def note_orphan(self, ino: InodeId) -> None:
        """An op took this inode's last name, and left the inode."""
        self._orphans[ino] = None
        if self.is_free(ino):
            self._enqueue(ino)

    def note_freed(self, inos: Iterable[InodeId]) -> None:
        """Nobody holds these any more."""
        for ino in inos:
            if ino in self._orphans:
                self._enqueue(ino)

    def wake(self) -> None:
        """Everyone may be back now."""
        self._has_work.set()

    def _enqueue(self, ino: InodeId) -> None:
        self._queue.append(ino)
        self._has_work.set()

    def reclaim_now(self, overlay: Overlay, ino: InodeId, now_ns: int) -> bool:
        """Remove the inode as part of the change that took its last name, if that is cheap.

        False: it is an orphan now, see `note_orphan`.
        """
        if not self.is_free(ino):
            return False
        step = Overlay(overlay)
        try:
            result = apply(step, Reclaim(credentials=_ROOT_USER, now_ns=now_ns, ino=ino))
        except (Missing, FsError):
            return False
        if result.inode is not None or len(step.changes) + len(overlay.changes) > OP_RECORDS_MAX:
            return False
        for key, record in step.changes.items():
            if record is None:
                overlay.delete(key)
            else:
                overlay.put(key, record)
        return True

    # ------------------------------------------------------------ in the background

    async def work(self) -> None:
        """Take orphans apart as they come, until cancelled."""
        while True:
            while not (self._queue and self._lifetimes.is_everyone_back):
                if self._has_work.is_set():
                    self._has_work = trio.Event()
                await self._has_work.wait()
            ino = self._queue.popleft()
            try:
                await self._take_apart(ino)
            except FsError as error:
                log.error("orphan %d cannot be taken apart: %s", ino, error)
            except SETBACKS as error:
                log.warning("orphan %d waits: %s", ino, error)
                await trio.sleep(RETRY_S)
                self._enqueue(ino)

    async def _take_apart(self, ino: InodeId) -> None:
        while await self._committer.commit(self._step_of(ino)):
            await self._fault_point("an orphan is taken apart halfway")
        if not self._holds.is_held(ino):
            self._orphans.pop(ino, None)

    def _step_of(self, ino: InodeId) -> Callable[[Overlay], bool]:
        def step(overlay: Overlay) -> bool:
            """Whether more is left to do."""
            if not self.is_free(ino) or overlay.get(orphan_key(ino), Orphan) is None:
                return False
            inode = overlay.get(inode_key(ino), Inode)
            if inode is None:
                # A mark without an inode: what an interrupted repair may leave.
                overlay.delete(orphan_key(ino))
                return False
            if inode.nlink:
                raise FsError(errno.EIO, "it is marked as an orphan, but has a name: run dfs fsck")
            op = Reclaim(credentials=_ROOT_USER, now_ns=self._now_ns(), ino=ino)
            return apply(overlay, op).inode is not None

        return step
