"""A whole volume in a dict: applies ops as a metadata server would, but remembers nothing by
itself.

Its view starts every op with no record in memory, so every op is applied again and again until all
that it asks for was fetched: each test of an op is also a test of `Missing`.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec.structs import replace

from dfs.core import garbage
from dfs.core.namespace.apply import apply
from dfs.core.namespace.entries import root_records
from dfs.core.namespace.extents import extents_touching
from dfs.core.namespace.inodes import get_inode
from dfs.core.namespace.invariants import RecordChecker
from dfs.core.namespace.keys import BLOCK, COUNTERS_KEY, block_id_of, block_key, table_of
from dfs.core.namespace.ops import (
    AnyOp,
    CommitData,
    Create,
    Divide,
    Mkdir,
    OpResult,
    Piece,
    Reclaim,
)
from dfs.core.namespace.records import BlockRef, Counters, Record, decode_record, encode_record
from dfs.core.namespace.view import Missing, Overlay, ScanRange, View
from dfs.errors import FsError
from dfs.limits import FILE_BYTES_MAX, OP_RECORDS_MAX
from dfs.types import ROOT, BlockId, Credentials, InodeId, SessionId

if TYPE_CHECKING:
    from collections.abc import Callable

    from dfs.core.namespace.census import Finding
    from dfs.core.namespace.records import Extent, Inode

R = TypeVar("R", bound=Record)
T = TypeVar("T")

FETCHES_MAX = 200
START_NS = 1 << 62
"""The clock starts where no explicit time stamp of a test is."""


class Records:
    """A dict of records that is a View."""

    def __init__(self, records: dict[bytes, Record] | None = None) -> None:
        self.records = dict(records or {})

    def get(self, key: bytes, record_type: type[R]) -> R | None:
        record = self.records.get(key)
        assert record is None or isinstance(record, record_type)
        return record

    def scan(self, scan_range: ScanRange, record_type: type[R]) -> list[tuple[bytes, R]]:
        start, end, limit, is_reverse = scan_range
        assert limit > 0
        keys = sorted((k for k in self.records if start <= k < end), reverse=is_reverse)[:limit]
        rows = [(key, self.records[key]) for key in keys]
        assert all(isinstance(record, record_type) for _, record in rows)
        return rows  # type: ignore[return-value]


class Forgetful:
    """A View that has only what was fetched for it."""

    def __init__(self, base: View) -> None:
        self._base = base
        self.keys: set[bytes] = set()
        self.ranges: set[ScanRange] = set()

    def get(self, key: bytes, record_type: type[R]) -> R | None:
        if key not in self.keys:
            raise Missing(keys=(key,))
        return self._base.get(key, record_type)

    def scan(self, scan_range: ScanRange, record_type: type[R]) -> list[tuple[bytes, R]]:
        if scan_range not in self.ranges:
            raise Missing(ranges=(scan_range,))
        return self._base.scan(scan_range, record_type)

    def fetch(self, missing: Missing) -> None:
        assert not self.keys.intersection(missing.keys)
        assert not self.ranges.intersection(missing.ranges)
        self.keys.update(missing.keys)
        self.ranges.update(missing.ranges)


def with_fetches(view: View, read: Callable[[View], T]) -> T:
    """What `read` gives once all that it asks for was fetched."""
    forgetful = Forgetful(view)
    for _ in range(FETCHES_MAX):
        try:
            return read(forgetful)
        except Missing as missing:
            forgetful.fetch(missing)
    raise AssertionError("it keeps asking for more")


class Volume(Records):
    """The records of a volume, and the clock and numbers that ops need."""

    def __init__(self) -> None:
        super().__init__(root_records(now_ns=START_NS))
        counters = Counters(InodeId(2), SessionId(1), inode_count=1, stored_bytes=0)
        self.records[COUNTERS_KEY] = counters
        self.now_ns = START_NS
        self.last_ino = 1

    # ---------------------------------------------------------------- ops

    def apply(self, op: AnyOp) -> OpResult:
        """Applies the op as a server does: fetching, dividing, and only then taking it in."""
        forgetful = Forgetful(self)
        for _ in range(FETCHES_MAX):
            overlay = Overlay(forgetful)
            try:
                result = apply(overlay, op)
            except Missing as missing:
                forgetful.fetch(missing)
            except Divide as divide:
                self.apply(divide.first)
                forgetful = Forgetful(self)
            else:
                self._take_in(overlay)
                return result
        raise AssertionError("it keeps asking for more")

    def _take_in(self, overlay: Overlay) -> None:
        assert len(overlay.changes) <= OP_RECORDS_MAX
        for key, record in overlay.changes.items():
            self._count(key, record)
            if record is None:
                self.records.pop(key, None)
            else:
                assert decode_record(type(record), encode_record(record)) == record
                self.records[key] = record

    def _count(self, key: bytes, record: Record | None) -> None:
        """Keeps the totals, as the metadata server does."""
        if table_of(key) != b"I":
            return
        old: Any = self.records.get(key)
        new: Any = record
        counters = self.records[COUNTERS_KEY]
        assert isinstance(counters, Counters)
        self.records[COUNTERS_KEY] = replace(
            counters,
            next_ino=InodeId(max(counters.next_ino, new.ino + 1 if new else 0)),
            inode_count=counters.inode_count + (new is not None) - (old is not None),
            stored_bytes=counters.stored_bytes
            + (new.stored_bytes if new else 0)
            - (old.stored_bytes if old else 0),
        )

    def stamp(self, who: Credentials) -> dict[str, Any]:
        """Who and when: the fields that all ops share. Time grows with every call."""
        self.now_ns += 1
        return {"credentials": who, "now_ns": self.now_ns}

    def new_ino(self) -> InodeId:
        self.last_ino += 1
        return InodeId(self.last_ino)

    def do(self, kind: type[AnyOp], who: Credentials | None = None, **fields: Any) -> OpResult:
        """Applies a new op of this kind; a number for what it makes is chosen here."""
        if "ino" in kind.__struct_fields__ and "ino" not in fields:
            fields["ino"] = self.new_ino()
        return self.apply(kind(**fields, **self.stamp(who or ROOT_USER)))

    def errno_of(self, kind: type[AnyOp], who: Credentials | None = None, **fields: Any) -> int:
        """The errno that the op fails with, having changed nothing; 0 if it succeeds."""
        before = dict(self.records)
        try:
            self.do(kind, who, **fields)
        except FsError as error:
            assert self.records == before
            return error.errno
        return 0

    # ---------------------------------------------------------------- short words for tests

    def mkdir(self, parent: InodeId, name: bytes, mode: int = 0o755, **who: Any) -> Inode:
        return _inode(self.do(Mkdir, parent=parent, name=name, mode=mode, **who))

    def create(
        self, parent: InodeId, name: bytes, mode: int = stat.S_IFREG | 0o644, **more: Any
    ) -> Inode:
        return _inode(self.do(Create, parent=parent, name=name, mode=mode, **more))

    def commit(self, ino: InodeId, *pieces: Piece, who: Credentials | None = None) -> Inode:
        return _inode(self.do(CommitData, who, ino=ino, pieces=pieces))

    def inode(self, ino: InodeId) -> Inode:
        return get_inode(self, ino)

    def extents(self, ino: InodeId) -> list[Extent]:
        return extents_touching(self, ino, 0, FILE_BYTES_MAX, 1 << 30)

    def ref(self, block_id: BlockId) -> BlockRef | None:
        return self.get(block_key(block_id), BlockRef)

    def read(self, ino: InodeId, blocks: dict[BlockId, bytes]) -> bytes:
        """The file's bytes, its extents laid over zeros."""
        content = bytearray(self.inode(ino).size)
        for extent in self.extents(ino):
            piece = extent.inline
            if extent.block_id:
                start = extent.block_offset
                piece = blocks[extent.block_id][start : start + extent.length]
            assert len(piece) == extent.length
            content[extent.offset : extent.end] = piece
        return bytes(content)

    def reclaim(self, ino: InodeId) -> int:
        """Takes an orphan apart; gives the number of steps."""
        for step in range(1, FETCHES_MAX):
            if self.do(Reclaim, ino=ino).inode is None:
                return step
        raise AssertionError("it never ends")

    def collect_garbage(self) -> list[BlockId]:
        """Condemns and forgets every unused block, and says which."""
        refs = [(k, r) for k, r in self.records.items() if table_of(k) == BLOCK]
        unused = [block_id_of(k) for k, r in refs if isinstance(r, BlockRef) and r.count == 0]
        for block_id in unused:
            for step in (garbage.condemn, garbage.forget):
                overlay = Overlay(self)
                step(overlay, block_id)
                self._take_in(overlay)
        return unused

    def findings(self, held: frozenset[InodeId] = frozenset()) -> list[Finding]:
        """What the checks of the invariants say."""
        checker = RecordChecker()
        for key in sorted(self.records):
            checker.add(key, encode_record(self.records[key]))
        return checker.finish(set(held))

    def assert_sound(self, held: frozenset[InodeId] = frozenset()) -> None:
        assert self.findings(held) == []


def _inode(result: OpResult) -> Inode:
    assert result.inode is not None
    return result.inode


ROOT_USER = Credentials(uid=0, gid=0)
ALICE = Credentials(uid=1000, gid=1000, groups=(2000,))
BOB = Credentials(uid=1001, gid=1001, groups=(2000,))

__all__ = ["ALICE", "BOB", "ROOT", "ROOT_USER", "Records", "Volume", "with_fetches"]
