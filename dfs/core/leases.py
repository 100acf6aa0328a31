"""Leases: which session may answer for which inode from what it remembers (I4).

A lease covers an inode's attributes and content and, of a directory, its entries: those that are
there and those that are not. While a session has it, whoever changes any of that waits until the
session has forgotten it. A change of an entry recalls the name and the directory's attributes; the
rest of the directory stays leased.

    an inode is | leases on it are given | its changes
    free        | to whoever asks        | claim it first
    claimed     | to nobody else         | wait until everyone who has it forgot what they change
    exclusive   | to nobody else         | only its holder's, who makes them without asking

Exclusive is what a session made itself, changed while nobody else had a lease on it, or found
beside that. Whoever else only looks at it recalls that: the holder's changes come first, and the
lease is shared then.

A session whose own op changes what it has leased has forgotten that before it sent the op, as far
as the op names it (`named_by`). What an op changes without naming it is recalled even from its own
session, unless that has given it back, or has foreseen all that the op does.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from dfs.core.namespace.keys import DENTRY, EXTENT, INODE, XATTR, ino_of, name_of, table_of
from dfs.core.namespace.ops import (
    CommitData,
    Create,
    Link,
    Mkdir,
    RemoveXattr,
    Rename,
    Rmdir,
    SetAttr,
    SetXattr,
    Symlink,
    Unlink,
)
from dfs.limits import LEASES_PER_SESSION_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dfs.core.namespace.ops import AnyOp
    from dfs.core.namespace.records import Record
    from dfs.types import InodeId, SessionId

Touched = dict["InodeId", set[bytes]]
"""Inodes, and the names of directory entries in them. An inode without names is touched itself."""

_OF_THE_INODE = (INODE, XATTR, EXTENT)
LEASED_TABLES = (*_OF_THE_INODE, DENTRY)
"""Tables whose records leases cover."""


def touched_by(changes: Mapping[bytes, Record | None]) -> Touched:
    """What leases cover of these changed records."""
    touched: Touched = {}
    for key in changes:
        table = table_of(key)
        if table == DENTRY:
            touched.setdefault(ino_of(key), set()).add(name_of(key))
        elif table in _OF_THE_INODE:
            touched.setdefault(ino_of(key), set())
    return touched


def named_by(op: AnyOp) -> Touched:
    """What an op says itself that it changes, in its own fields."""
    named: Touched = {}
    match op:
        case Rename():
            named[op.parent] = {op.name}
            named.setdefault(op.new_parent, set()).add(op.new_name)
        case Link():
            named = {op.ino: set(), op.parent: {op.name}}
        case Create() | Mkdir() | Symlink() | Unlink() | Rmdir():
            named[op.parent] = {op.name}
        case SetAttr() | SetXattr() | RemoveXattr() | CommitData():
            named[op.ino] = set()
    return named


class Claim:
    """A change that wants to happen: what it claimed, and who has forgotten what it changes."""

    def __init__(self) -> None:
        self.touched: Touched = {}
        self.forgotten: dict[tuple[SessionId, InodeId], set[bytes]] = {}


class Leases:
    """Who has what. Pure: `dfs.meta.recalls` carries recalls out."""

    def __init__(self) -> None:
        self._holders: dict[InodeId, dict[SessionId, None]] = {}
        self._held: dict[SessionId, dict[InodeId, None]] = {}
        self._exclusive: dict[InodeId, SessionId] = {}
        self._claims: Counter[InodeId] = Counter()

    def count(self, session_id: SessionId) -> int:
        """Inodes that the session has leased."""
        return len(self._held.get(session_id, ()))

    def has(self, session_id: SessionId, ino: InodeId) -> bool:
        return session_id in self._holders.get(ino, ())

    def is_leased(self, ino: InodeId) -> bool:
        return ino in self._holders

    def is_exclusive(self, session_id: SessionId, ino: InodeId) -> bool:
        return self._exclusive.get(ino) == session_id

    def exclusive_of(self, session_id: SessionId) -> list[InodeId]:
        """What the session has exclusively."""
        held = self._held.get(session_id, ())
        return [ino for ino in held if self._exclusive.get(ino) == session_id]

    # ------------------------------------------------------------ giving and taking back

    def grant(self, session_id: SessionId, ino: InodeId, own: Claim | None = None) -> bool:
        """Lease the inode to the session from this moment on. False: not now, somebody claims it
        (beside `own`), or the session has too many."""
        assert session_id > 0
        assert self._exclusive.get(ino, session_id) == session_id, "its holder has not shared it"
        if self._is_claimed(ino, own):
            return False
        if not self.has(session_id, ino):
            if self.count(session_id) >= LEASES_PER_SESSION_MAX:
                return False
            self._hold(session_id, ino)
        return True

    def grant_exclusive(
        self, session_id: SessionId, ino: InodeId, own: Claim | None = None
    ) -> bool:
        """Lease the inode to the session alone, if nobody else has a lease on it."""
        holders = self._holders.get(ino, ())
        if len(holders) > (session_id in holders) or not self.grant(session_id, ino, own):
            return False
        self._exclusive[ino] = session_id
        return True

    def take(self, session_id: SessionId, ino: InodeId) -> None:
        """The session has the inode exclusively: it has made it, or had it before and is back."""
        assert ino not in self._holders
        self._hold(session_id, ino)
        self._exclusive[ino] = session_id

    def _hold(self, session_id: SessionId, ino: InodeId) -> None:
        self._held.setdefault(session_id, {})[ino] = None
        self._holders.setdefault(ino, {})[session_id] = None

    def _is_claimed(self, ino: InodeId, own: Claim | None) -> bool:
        is_own = own is not None and ino in own.touched
        return self._claims[ino] > int(is_own) if ino in self._claims else False

    def share(self, session_id: SessionId, ino: InodeId) -> None:
        """What the session has changed by itself is done: others may look at the inode, too."""
        if self._exclusive.get(ino) == session_id:
            del self._exclusive[ino]

    def give_back(self, session_id: SessionId, inos: Iterable[InodeId]) -> None:
        """The session has forgotten these."""
        held = self._held.get(session_id)
        if held is None:
            return
        for ino in inos:
            if ino in held:
                del held[ino]
                self._drop_holder(ino, session_id)
        if not held:
            del self._held[session_id]

    def give_back_all(self, session_id: SessionId) -> None:
        """The session has forgotten everything, or is over."""
        for ino in self._held.pop(session_id, ()):
            self._drop_holder(ino, session_id)

    def _drop_holder(self, ino: InodeId, session_id: SessionId) -> None:
        self.share(session_id, ino)
        holders = self._holders[ino]
        del holders[session_id]
        if not holders:
            del self._holders[ino]

    # ------------------------------------------------------------ changes

    def in_the_way(
        self, claim: Claim | None, own: SessionId, touched: Touched, named: Touched
    ) -> dict[SessionId, Touched]:
        """By session, what it has to forget before `touched` may change. Empty: go ahead.

        `own` is the session whose op it is, 0 for the server itself, and `named` what it knows to
        be changed.
        """
        recalls: dict[SessionId, Touched] = {}
        for ino, names in touched.items():
            for session_id in self._holders.get(ino, ()):
                if session_id == own and ino in named and names <= named[ino]:
                    continue
                forgotten = claim.forgotten.get((session_id, ino)) if claim is not None else None
                if forgotten is None or not names <= forgotten:
                    recalls.setdefault(session_id, {})[ino] = set(names)
        return recalls

    def in_sight(self, own: SessionId, inos: Iterable[InodeId]) -> dict[SessionId, Touched]:
        """By session, what it has to share before `own` may look at these. Empty: go ahead."""
        recalls: dict[SessionId, Touched] = {}
        for ino in inos:
            holder = self._exclusive.get(ino, own)
            if holder != own:
                recalls.setdefault(holder, {})[ino] = set()
        return recalls

    def claim(self, claim: Claim, touched: Touched) -> None:
        """No more leases on these until `release`."""
        for ino, names in touched.items():
            if ino not in claim.touched:
                claim.touched[ino] = set()
                self._claims[ino] += 1
            claim.touched[ino] |= names

    def forget(self, claim: Claim, session_id: SessionId, touched: Touched) -> None:
        """The session has forgotten this, which was recalled for the claim. A directory of which
        only names were recalled stays leased.

        Nothing follows from it once the claim was released: since it forgot, the session may have
        been given the lease again.
        """
        for ino, names in touched.items():
            if ino not in claim.touched:
                continue
            self.share(session_id, ino)
            if not names:
                self.give_back(session_id, (ino,))
            else:
                claim.forgotten.setdefault((session_id, ino), set()).update(names)

    def release(self, claim: Claim) -> None:
        """The change happened, or never will."""
        for ino in claim.touched:
            self._claims[ino] -= 1
            if not self._claims[ino]:
                del self._claims[ino]
        claim.touched.clear()
        claim.forgotten.clear()
