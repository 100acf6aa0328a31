"""Ops that a client does by itself: the server's rules, over what it has leased (I4, I8).

An op is done here if everything that it reads is leased and everything that it changes is leased to
this client alone. Then nobody can tell whether the server did it before the application was told or
soon after; until then it is *owed*. Whoever recalls any of it waits until nothing is owed.
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from dfs.core.leases import touched_by
from dfs.core.namespace.apply import apply
from dfs.core.namespace.keys import (
    DENTRY,
    EXTENT,
    INODE,
    ORPHAN,
    extent_key,
    ino_of,
    inode_key,
    name_of,
    offset_of,
    table_of,
)
from dfs.core.namespace.ops import Create, Divide, Mkdir, Symlink
from dfs.core.namespace.records import Dentry, Inode, Record
from dfs.core.namespace.view import Missing, Overlay

if TYPE_CHECKING:
    from dfs.client.extent_map import ExtentMap
    from dfs.client.record_cache import RecordCache
    from dfs.core.namespace.ops import ClientOp, OpResult
    from dfs.core.namespace.view import ScanRange
    from dfs.types import InodeId

R = TypeVar("R", bound=Record)

ExtentsOf = Callable[["InodeId"], "ExtentMap | None"]
"""What is known of a file's extents; None: nothing."""

_KNOWN_TABLES = (INODE, DENTRY, ORPHAN, EXTENT)


class _LeasedRecords:
    """What is leased, as a View. `unused`: a number of which this client knows that no inode has
    it."""

    def __init__(self, records: RecordCache, extents_of: ExtentsOf, unused: InodeId | None) -> None:
        self._records = records
        self._extents_of = extents_of
        self._unused = unused

    def get(self, key: bytes, record_type: type[R]) -> R | None:
        found: Record | None = None
        table = table_of(key)
        if table == INODE:
            if ino_of(key) != self._unused:
                found = self._inode(ino_of(key))
        elif table == DENTRY:
            found = self._dentry(key)
        else:
            raise Missing((key,))
        assert found is None or isinstance(found, record_type)
        return found

    def _inode(self, ino: InodeId) -> Inode:
        inode = self._records.leased_inode(ino)
        if inode is None or self._records.is_in_flux(ino):
            raise Missing((inode_key(ino),))
        return inode

    def _dentry(self, key: bytes) -> Dentry | None:
        ino = self._records.leased_entry(ino_of(key), name_of(key))
        if ino is None:
            raise Missing((key,))
        return Dentry(ino, stat.S_IFMT(self._inode(ino).mode)) if ino else None

    def scan(self, scan_range: ScanRange, record_type: type[R]) -> list[tuple[bytes, R]]:
        """Of extents, perhaps in other parts than the server's, which the results do not show."""
        if table_of(scan_range.start) != EXTENT:
            raise Missing(ranges=(scan_range,))
        ino = ino_of(scan_range.start)
        start, end = offset_of(scan_range.start), offset_of(scan_range.end)
        known, version = self._extents_of(ino), self._inode(ino).data_version
        if known is None or known.data_version != version or known.unknown(start, end):
            raise Missing(ranges=(scan_range,))
        rows: list[tuple[bytes, R]] = []
        for extent in known.starting_in(start, end):
            assert isinstance(extent, record_type)
            rows.append((extent_key(ino, extent.offset), extent))
        return (rows[::-1] if scan_range.is_reverse else rows)[: scan_range.limit]


def do_here(
    records: RecordCache, op: ClientOp, extents_of: ExtentsOf = lambda _: None
) -> tuple[OpResult, list[InodeId]] | None:
    """The op's result and what it touches, which is owed from now on; None: the server has to be
    asked.

    Raises FsError when the op fails, as it would at the server.
    """
    if not records.is_good:
        return None
    unused = op.ino if isinstance(op, Create | Mkdir | Symlink) else None
    overlay = Overlay(_LeasedRecords(records, extents_of, unused))
    try:
        result = apply(overlay, op)
    except (Missing, Divide):
        return None
    changes = overlay.changes
    if any(table_of(key) not in _KNOWN_TABLES for key in changes):
        return None
    touched = touched_by(changes)
    if not all(ino == unused or records.is_leased_exclusively(ino) for ino in touched):
        return None
    records.take(changes, touched)
    return result, list(touched)
