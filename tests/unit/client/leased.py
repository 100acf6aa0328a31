"""A volume, and a client's memory to which some of it is leased."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from dfs.core.leases import named_by, touched_by
from dfs.core.messages import Recall
from dfs.core.namespace.apply import apply
from dfs.core.namespace.keys import INODE, dentry_key, ino_of, table_of
from dfs.core.namespace.ops import Divide
from dfs.core.namespace.records import Dentry, Inode
from dfs.core.namespace.view import Overlay
from dfs.errors import FsError
from dfs.types import InodeId

if TYPE_CHECKING:
    from dfs.client.record_cache import RecordCache
    from dfs.core.leases import Touched
    from dfs.core.namespace.ops import ClientOp
    from tests.unit.core.namespace.volume import Volume

FOR_EVER: Final = math.inf


def touched_in(volume: Volume, op: ClientOp) -> Touched:
    """What the op will touch; nothing if it fails."""
    overlay = Overlay(volume)
    try:
        apply(overlay, op)
    except Divide as divide:
        apply(overlay, divide.first)
    except FsError:
        return {}
    return touched_by(overlay.changes)


class Leased:
    """`volume` is what the server has, or will have when all that is owed has arrived."""

    def __init__(self, volume: Volume, records: RecordCache) -> None:
        self.volume = volume
        self.records = records
        records.good_until_s = FOR_EVER

    def inos(self) -> list[InodeId]:
        """What has a name."""
        return [inode.ino for inode in self._inodes() if inode.nlink]

    def orphans(self) -> list[InodeId]:
        return [inode.ino for inode in self._inodes() if not inode.nlink]

    def _inodes(self) -> list[Inode]:
        keys = [key for key in self.volume.records if table_of(key) == INODE]
        return [self.volume.inode(ino_of(key)) for key in sorted(keys)]

    # ---------------------------------------------------------------- answers of the server

    def alone(self, *inos: InodeId) -> None:
        """These are this client's alone."""
        for ino in inos:
            self.records.note_exclusive(self.volume.inode(ino))

    def learn_inode(self, ino: InodeId) -> None:
        with self.records.asking() as question:
            self.records.note_inode(question, self.volume.inode(ino))

    def learn_name(self, parent: InodeId, name: bytes) -> None:
        with self.records.asking() as question:
            self.records.note_entry(question, parent, name, self.truth(parent, name))

    def ask(self, op: ClientOp, touched: Touched) -> None:
        """Have the op done by the server: what it changes unnamed is recalled or given back."""
        given_back = self.records.begin(op)
        named = named_by(op)
        for ino, names in touched.items():
            if ino not in given_back and not (ino in named and names <= named[ino]):
                self.records.recall(Recall(1, {ino: tuple(sorted(names))}))
        try:
            self.apply(op)
        except FsError:
            assert not touched
        self.records.end(op)

    def apply(self, op: ClientOp) -> None:
        self.volume.apply(op)

    # ---------------------------------------------------------------- what is known

    def truth(self, parent: InodeId, name: bytes) -> InodeId:
        entry = self.volume.get(dentry_key(parent, name), Dentry)
        return entry.ino if entry is not None else InodeId(0)

    def check(self, *names: bytes) -> None:
        """All that is known is so; of entries those with these names."""
        for inode in self._inodes():
            assert self.records.inode(inode.ino) in (None, inode)
            for name in names if inode.is_directory else ():
                known = self.records.entry(inode.ino, name)
                assert known in (None, self.truth(inode.ino, name)), (inode.ino, name)
