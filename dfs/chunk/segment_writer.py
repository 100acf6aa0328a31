"""Carries out what changes a segment store: records into the segment, one sync, then the index.

Blocking; one thread at a time. A step takes mutations from the front of the queue, as many as the
open segment has room for, and either all of them are durable and indexed when it returns (I3), or
none. Mutations take effect in their order, so two of the same block never cross.
"""

from __future__ import annotations

import logging
from itertools import takewhile
from typing import TYPE_CHECKING

import msgspec

from dfs.chunk.disk import Buffer
from dfs.chunk.index import RECENT_RECORDS_MAX, BlockLocation
from dfs.chunk.segment_log import SEGMENTS_DIRECTORY, disk_failure, segment_name
from dfs.core.segments import (
    RecordKind,
    Tombstone,
    encode_header,
    payload_checksum,
    record_bytes,
)
from dfs.errors import DfsError, NoSpace
from dfs.limits import INDEX_CHECKPOINT_RECORDS
from dfs.types import BlockId

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dfs.chunk.disk import Disk
    from dfs.chunk.index import BlockIndex
    from dfs.chunk.segment_log import SegmentLog

_NO_CHECKSUM = payload_checksum(b"")

logger = logging.getLogger(__name__)


class Put(msgspec.Struct, frozen=True):
    """Store a block whose bytes were verified. With `source`: a copy made by compaction, void
    unless the block still lies there."""

    block_id: BlockId
    encoded_header: bytes
    payload: Buffer
    checksum: bytes
    source: BlockLocation | None = None

    @property
    def size(self) -> int:
        return record_bytes(len(self.encoded_header), len(self.payload))


class Delete(msgspec.Struct, frozen=True):
    """Forget a block."""

    block_id: BlockId


class MarkBad(msgspec.Struct, frozen=True):
    """The copy at this place was found corrupt."""

    block_id: BlockId
    location: BlockLocation


class KeepTombstone(msgspec.Struct, frozen=True):
    """Write a tombstone again, whose segment goes away, if what it kills still exists."""

    tombstone: Tombstone


class RetireSegment(msgspec.Struct, frozen=True):
    """Remove a sealed segment of which nothing is needed any more."""

    number: int


class SealSegment(msgspec.Struct, frozen=True):
    """Begin a new segment if `number` is the one being written."""

    number: int


Mutation = Put | Delete | MarkBad | KeepTombstone | RetireSegment | SealSegment
_Record = tuple[RecordKind, bytes, Buffer, bytes]


class Step(msgspec.Struct, frozen=True):
    """What came of the first `count` mutations: all done, or all failed with `error`."""

    count: int
    error: DfsError | None = None


class SegmentWriter:
    """The one that changes log and index."""

    def __init__(self, disk: Disk, log: SegmentLog, index: BlockIndex) -> None:
        self._disk = disk
        self._log = log
        self._index = index
        self._where: dict[BlockId, BlockLocation | None] = {}
        """This step's view of the index, with what it has placed so far."""
        self._effects: list[Callable[[], object]] = []
        """Changes of the index, to be made once the records are durable."""

    def step(self, mutations: Sequence[Mutation]) -> Step:
        """Do as many as fit one segment and one index commit, at least one."""
        assert mutations
        try:
            if self._index.recent_count >= INDEX_CHECKPOINT_RECORDS:
                self._index.checkpoint()
            return Step(self._write(mutations[:INDEX_CHECKPOINT_RECORDS]))
        except NoSpace as error:
            return self._step_without_puts(mutations, error)
        except DfsError as error:
            self._abandon()
            return Step(len(mutations), error)

    def checkpoint(self) -> None:
        """Write the index, so that a start need not replay. Raises DfsError."""
        self._index.checkpoint()

    def _step_without_puts(self, mutations: Sequence[Mutation], error: NoSpace) -> Step:
        """On a full disk the puts fail, but deletes must go through: they make space."""
        self._abandon()
        is_put = isinstance(mutations[0], Put)
        run = list(takewhile(lambda mutation: isinstance(mutation, Put) == is_put, mutations))
        if is_put or self._index.recent_count >= RECENT_RECORDS_MAX:
            return Step(len(run), error)
        try:
            return Step(self._write(run[:INDEX_CHECKPOINT_RECORDS]))
        except DfsError as second_error:
            self._abandon()
            return Step(len(run), second_error)

    def _abandon(self) -> None:
        self._log.drop_placed()
        self._effects.clear()
        self._where.clear()

    def _write(self, mutations: Sequence[Mutation]) -> int:
        """Place, flush, index. Returns how many mutations were done."""
        assert not self._effects
        self._look_up(mutations)
        placed_bytes = 0
        count = 0
        for mutation in mutations:
            records = self._records_of(mutation)
            size = sum(record_bytes(len(record[1]), len(record[2])) for record in records)
            if records and not self._log.has_room(size):
                if placed_bytes:
                    break
                self._roll()
            self._place(mutation, records)
            placed_bytes += size
            count += 1
            if isinstance(mutation, RetireSegment | SealSegment):
                break  # these act on files: nothing placed may follow or be pending behind them
        if placed_bytes:
            end = self._log.flush()
            self._index.advance(self._log.number, end)
        for effect in self._effects:
            effect()
        self._effects.clear()
        self._where.clear()
        assert count > 0
        return count

    def _look_up(self, mutations: Sequence[Mutation]) -> None:
        ids = [m.block_id for m in mutations if isinstance(m, Put | Delete)]
        self._where = dict(zip(ids, self._index.get(ids), strict=True))

    def _roll(self) -> None:
        number = self._log.roll()
        self._index.begin_segment(number)

    def _records_of(self, mutation: Mutation) -> list[_Record]:
        """The records that a mutation needs, in order; empty when there is nothing to do."""
        if isinstance(mutation, Put):
            return self._records_of_put(mutation)
        if isinstance(mutation, Delete):
            current = self._where[mutation.block_id]
            return [] if current is None else [_tombstone_record(mutation.block_id, current)]
        if isinstance(mutation, KeepTombstone):
            tombstone = mutation.tombstone
            is_needed = self._index.is_tombstone_needed(tombstone.segment)
            encoded = encode_header(tombstone)
            return [(RecordKind.DELETE, encoded, b"", _NO_CHECKSUM)] if is_needed else []
        return []

    def _records_of_put(self, put: Put) -> list[_Record]:
        current = self._where[put.block_id]
        record = (RecordKind.PUT, put.encoded_header, put.payload, put.checksum)
        if put.source is not None:
            is_there = current is not None and not current.is_bad
            return [record] if is_there and put.source.is_same_place(current) else []
        if current is None:
            return [record]
        # A bad copy is killed by name, or an index rebuilt from the segments would count it again.
        return [_tombstone_record(put.block_id, current), record] if current.is_bad else []

    def _place(self, mutation: Mutation, records: Sequence[_Record]) -> None:
        """Add the records to the log and note what the index must learn when they are durable."""
        for kind, encoded_header, payload, checksum in records:
            offset = self._log.place(kind, encoded_header, payload, checksum)
            if kind is RecordKind.PUT:
                assert isinstance(mutation, Put)
                self._note_put(mutation, offset)
            else:
                self._note_tombstone(mutation, record_bytes(len(encoded_header), 0))
        if isinstance(mutation, MarkBad):
            self._effects.append(lambda: self._index.mark_bad(mutation.block_id, mutation.location))
        elif isinstance(mutation, RetireSegment):
            self._effects.append(lambda: self._retire(mutation.number))
        elif isinstance(mutation, SealSegment):
            self._effects.append(lambda: self._seal(mutation.number))

    def _note_put(self, put: Put, offset: int) -> None:
        location = BlockLocation(
            segment=self._log.number,
            offset=offset,
            header_bytes=len(put.encoded_header),
            payload_bytes=len(put.payload),
        )
        self._where[put.block_id] = location
        self._effects.append(lambda: self._index.place(put.block_id, location))

    def _note_tombstone(self, mutation: Mutation, size: int) -> None:
        number = self._log.number
        if isinstance(mutation, KeepTombstone):
            target = mutation.tombstone.segment
        else:
            assert isinstance(mutation, Put | Delete)
            block_id = mutation.block_id
            current = self._where[block_id]
            assert current is not None
            target = current.segment
            self._where[block_id] = None
            self._effects.append(lambda: self._index.remove(block_id))
        self._effects.append(lambda: self._index.count_tombstone(number, target, size))

    def _retire(self, number: int) -> None:
        """The index must have forgotten a segment durably before its file goes."""
        assert number < self._log.number
        self._index.retire_segment(number)
        self._index.checkpoint()
        try:
            self._disk.remove(segment_name(number))
            self._disk.sync_directory(SEGMENTS_DIRECTORY)
        except OSError as error:
            raise disk_failure(error, f"segment {number} cannot be removed") from error
        self._index.forget_segment(number)

    def _seal(self, number: int) -> None:
        if self._log.number == number:
            self._roll()


def _tombstone_record(block_id: BlockId, location: BlockLocation) -> _Record:
    tombstone = Tombstone(block_id, location.segment, location.offset)
    return (RecordKind.DELETE, encode_header(tombstone), b"", _NO_CHECKSUM)
