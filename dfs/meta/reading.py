"""Looking at records in somebody's name: what others have changed by themselves comes first (I4).

What a session has exclusively it may have changed without the server knowing yet. So whoever looks
at such an inode waits until its holder has made that durable and shares the lease: requests that
only look (`Reader`), and ops, whose answers also depend on what they do not change (`Sightings`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from dfs.core.leases import LEASED_TABLES, Claim
from dfs.core.messages import NO_SESSION
from dfs.core.namespace.keys import ino_of, table_of
from dfs.core.namespace.records import Record
from dfs.meta.recalls import LeaseConflict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from dfs.core.namespace.records import Inode
    from dfs.core.namespace.view import ScanRange, View
    from dfs.meta.committer import Committer
    from dfs.meta.recalls import Recalls
    from dfs.meta.sessions import LinkLike, Sessions
    from dfs.types import InodeId, SessionId

T = TypeVar("T")
R = TypeVar("R", bound=Record)


class Sightings:
    """A view that notes which inodes were looked at."""

    def __init__(self, view: View) -> None:
        self._view = view
        self.inos: dict[InodeId, None] = {}

    def get(self, key: bytes, record_type: type[R]) -> R | None:
        self._note(key)
        return self._view.get(key, record_type)

    def scan(self, scan_range: ScanRange, record_type: type[R]) -> list[tuple[bytes, R]]:
        self._note(scan_range.start)
        return self._view.scan(scan_range, record_type)

    def _note(self, key: bytes) -> None:
        if table_of(key) in LEASED_TABLES:
            self.inos[ino_of(key)] = None


class Reader:
    """One request that looks at inodes, and may lease them."""

    def __init__(
        self, sessions: Sessions, recalls: Recalls, link: LinkLike, lessee: SessionId = NO_SESSION
    ) -> None:
        """Raises Fenced, Disconnected when the `lessee` cannot ask by this link."""
        if lessee != NO_SESSION:
            sessions.of(lessee, link)
        self._sessions = sessions
        self._recalls = recalls
        self._link = link
        self._lessee = lessee
        self._claim: Claim | None = None
        """What others must not get hold of again before it was looked at."""

    async def read(self, committer: Committer, look: Callable[[View], T]) -> T:
        """What `look` finds, once all that it saw is durable (I3). It tells `see` and `lease` of
        what it looks at, and runs again when that has to be waited for."""
        try:
            while True:
                try:
                    return await committer.read(look)
                except LeaseConflict as conflict:
                    if self._claim is None:
                        self._claim = Claim()
                    await self._recalls.make_way(self._claim, conflict)
        finally:
            if self._claim is not None:
                self._recalls.leases.release(self._claim)

    def see(self, *inos: InodeId) -> None:
        """These are looked at."""
        self._recalls.check_sight(self._sessions.on(self._link), inos)

    def lease(self, inodes: Iterable[Inode]) -> list[bool]:
        """These are looked at, and leased from this moment on, as far as possible."""
        inodes = tuple(inodes)
        self.see(*(inode.ino for inode in inodes))
        if self._lessee == NO_SESSION:
            return [False] * len(inodes)
        lease = self._sessions.lease
        return [lease(self._lessee, self._link, inode, self._claim) for inode in inodes]

    def lease_entries(self, inodes: Sequence[Inode]) -> tuple[list[bool], tuple[InodeId, ...]]:
        """As `lease`, of a directory and inodes in it; and which of these are leased to nobody
        else: who has the directory exclusively is going to change them, too."""
        leased = self.lease(inodes)
        leases, lessee = self._recalls.leases, self._lessee
        if not leases.is_exclusive(lessee, inodes[0].ino):
            return leased, ()
        exclusive = (
            inode.ino
            for inode, is_leased in zip(inodes[1:], leased[1:], strict=True)
            if is_leased and leases.grant_exclusive(lessee, inode.ino, self._claim)
        )
        return leased, tuple(exclusive)
