"""Where each block lies: block id → segment and offset, over an engine.

Changes live in memory until a checkpoint writes them, with how far each segment is indexed, in one
commit. What is above a checkpoint is replayed from the segments at the next start (`recovery.py`),
so the index may be lost whole without losing a block.

`get` and `page` may be called from any thread. Everything that changes the index is called by one
task at a time: the store's writer, or recovery before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from dfs.core.compaction import SegmentUsage
from dfs.core.segments import SEGMENT_HEADER_BYTES, record_bytes
from dfs.engine.api import EngineDamaged
from dfs.errors import FormatTooNew, WrongCluster
from dfs.limits import BLOCK_ID_BYTES, INDEX_CHECKPOINT_RECORDS
from dfs.types import BlockId, ServerId

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dfs.engine.api import Engine

INDEX_FORMAT_VERSION: Final = 1
_BLOCK: Final = b"b"
_SEGMENT: Final = b"s"
_CHECKPOINT_KEY: Final = b"c"
_EVERYTHING: Final = (b"\0", b"\xff")
_PAGE_RECORDS: Final = 1000
RECENT_RECORDS_MAX: Final = 2 * INDEX_CHECKPOINT_RECORDS
"""Changes above which nothing more is taken on until a checkpoint succeeds."""


class BlockLocation(msgspec.Struct, frozen=True, array_like=True):
    """Where a put record lies. Lengths are of its parts as stored."""

    segment: int
    offset: int
    header_bytes: int
    payload_bytes: int
    is_bad: bool = False
    """Found corrupt: not had, and replaced by the next put."""

    @property
    def record_bytes(self) -> int:
        return record_bytes(self.header_bytes, self.payload_bytes)

    @property
    def end(self) -> int:
        return self.offset + self.record_bytes

    def is_same_place(self, other: BlockLocation | None) -> bool:
        return other is not None and self.segment == other.segment and self.offset == other.offset


_UNKNOWN: Final = BlockLocation(segment=0, offset=0, header_bytes=0, payload_bytes=0)


class _Checkpoint(msgspec.Struct, frozen=True, array_like=True):
    """Written with every checkpoint; an index without one is not used."""

    server_id: ServerId
    block_count: int


T = TypeVar("T")
_encoder = msgspec.msgpack.Encoder()
_location_decoder = msgspec.msgpack.Decoder(BlockLocation)
_usage_decoder = msgspec.msgpack.Decoder(SegmentUsage)
_checkpoint_decoder = msgspec.msgpack.Decoder(_Checkpoint)


class BlockIndex:
    """The index of one chunk server. Owner of the engine's content, not of the engine."""

    def __init__(self, engine: Engine, server_id: ServerId) -> None:
        assert server_id
        self._engine = engine
        self._server_id = server_id
        self._recent: dict[BlockId, BlockLocation | None] = {}
        """Changes since the last checkpoint; None: deleted."""
        self._usages: dict[int, SegmentUsage] = {}
        """By number, ascending."""
        self._changed_segments: dict[int, None] = {}
        self._block_count = 0
        self._is_loaded = False
        self._is_suspect = False

    @property
    def block_count(self) -> int:
        return self._block_count

    @property
    def recent_count(self) -> int:
        """Changes that no checkpoint holds yet."""
        return len(self._recent) + len(self._changed_segments)

    @property
    def used_bytes(self) -> int:
        return sum(usage.end_bytes for usage in self.usages)

    @property
    def usages(self) -> list[SegmentUsage]:
        """Of every segment there is, by number; removed ones are left out. Not to be changed."""
        return [usage for usage in list(self._usages.values()) if not usage.is_removed]

    @property
    def removed_segments(self) -> list[int]:
        """Segments whose files should be gone, by number."""
        return [usage.number for usage in list(self._usages.values()) if usage.is_removed]

    # ------------------------------------------------------------ any thread

    def get(self, block_ids: Sequence[BlockId]) -> list[BlockLocation | None]:
        """Where these lie, None where absent, in the order asked. Raises EngineDamaged."""
        found = [self._recent.get(block_id, _UNKNOWN) for block_id in block_ids]
        asked = [position for position, location in enumerate(found) if location is _UNKNOWN]
        if asked:
            # Not among the changes a moment ago: then the engine was up to date for it.
            values = self._engine.get([_BLOCK + block_ids[position] for position in asked])
            for position, value in zip(asked, values, strict=True):
                found[position] = None if value is None else _decode(_location_decoder, value)
        assert len(found) == len(block_ids)
        return found

    def page(self, after: BlockId, limit: int) -> tuple[list[tuple[BlockId, BlockLocation]], bool]:
        """Up to `limit` blocks by id above `after`, bad ones included, and whether that was the
        end."""
        assert limit > 0
        recent = self._recent.copy()
        start = _BLOCK + after + b"\0" if after else _BLOCK
        rows = self._engine.scan(start, _after_prefix(_BLOCK), limit + 1)
        is_last = len(rows) <= limit
        horizon = None if is_last else BlockId(rows[limit][0][1:])
        merged = {BlockId(key[1:]): _decode(_location_decoder, value) for key, value in rows}
        for block_id, location in recent.items():
            if block_id <= after or (horizon is not None and block_id >= horizon):
                continue
            if location is None:
                merged.pop(block_id, None)
            else:
                merged[block_id] = location
        if horizon is not None:
            merged.pop(horizon, None)
        entries = sorted(merged.items())
        if not entries and not is_last:
            # Every row of this page was deleted meanwhile: the next page answers.
            assert horizon is not None
            return self.page(BlockId(rows[limit - 1][0][1:]), limit)
        return entries[:limit], is_last and len(entries) <= limit

    def page_of_had(self, after: BlockId, limit: int) -> tuple[list[BlockId], bool]:
        """As `page`, without the bad ones: only the last page may be short or empty."""
        had: list[BlockId] = []
        while True:
            entries, is_last = self.page(after, limit - len(had))
            had += [block_id for block_id, location in entries if not location.is_bad]
            if is_last or len(had) == limit:
                return had, is_last
            after = entries[-1][0]

    # ------------------------------------------------------------ one task at a time

    def load(self) -> bool:
        """Read what the last checkpoint says. False when there is none (a new or lost index).

        Raises EngineDamaged when it makes no sense, FormatTooNew, WrongCluster.
        """
        assert not self._is_loaded
        value = self._engine.get([_CHECKPOINT_KEY])[0]
        if value is None:
            return False
        checkpoint = _decode(_checkpoint_decoder, value)
        if checkpoint.server_id != self._server_id:
            raise WrongCluster(
                f"the index belongs to chunk server {checkpoint.server_id}, not {self._server_id}"
            )
        self._block_count = checkpoint.block_count
        start, end = _SEGMENT, _after_prefix(_SEGMENT)
        while rows := self._engine.scan(start, end, _PAGE_RECORDS):
            for _, encoded in rows:
                usage = _decode(_usage_decoder, encoded)
                self._usages[usage.number] = usage
            start = rows[-1][0] + b"\0"
        self._is_loaded = True
        return True

    def clear(self) -> None:
        """Forget everything, in the engine too: the index is about to be rebuilt."""
        self._engine.commit({}, {}, clears=[_EVERYTHING])
        self._recent.clear()
        self._usages.clear()
        self._changed_segments.clear()
        self._block_count = 0
        self._is_loaded = True

    def begin_segment(self, number: int) -> None:
        """A new, empty segment exists. Numbers only grow."""
        assert number > max(self._usages, default=0)
        self._usages[number] = SegmentUsage(number=number, end_bytes=SEGMENT_HEADER_BYTES)
        self._changed_segments[number] = None

    def advance(self, number: int, end_bytes: int) -> None:
        """Everything of a segment below `end_bytes` is indexed."""
        usage = self._usages[number]
        assert end_bytes >= usage.end_bytes
        usage.end_bytes = end_bytes
        self._changed_segments[number] = None

    def place(self, block_id: BlockId, location: BlockLocation) -> None:
        """The block now lies here; an older copy is dead."""
        assert len(block_id) == BLOCK_ID_BYTES
        assert not location.is_bad
        self._release(self.get([block_id])[0])
        self._recent[block_id] = location
        self._count_live(location, +1)
        self._block_count += 1

    def remove(self, block_id: BlockId) -> None:
        """The block is deleted."""
        self._release(self.get([block_id])[0])
        self._recent[block_id] = None

    def mark_bad(self, block_id: BlockId, location: BlockLocation) -> bool:
        """The copy at this place is corrupt: not had any more. False when it moved or is known."""
        current = self.get([block_id])[0]
        if current is None or current.is_bad or not current.is_same_place(location):
            return False
        self._release(current)
        self._recent[block_id] = msgspec.structs.replace(current, is_bad=True)
        return True

    def count_tombstone(self, number: int, target_segment: int, tombstone_bytes: int) -> None:
        """Segment `number` holds a tombstone for a copy in `target_segment`."""
        assert tombstone_bytes > 0
        target = self._usages.get(target_segment)
        is_needed = target is not None and not target.is_removed and target_segment != number
        if is_needed:
            counts = self._usages[number].tombstone_bytes
            counts[target_segment] = counts.get(target_segment, 0) + tombstone_bytes
            self._changed_segments[number] = None

    def is_tombstone_needed(self, target_segment: int) -> bool:
        """Whether a tombstone for a copy in this segment must be kept."""
        target = self._usages.get(target_segment)
        return target is not None and not target.is_removed

    def retire_segment(self, number: int) -> None:
        """Nothing of a segment is needed: after the next checkpoint its file may go."""
        usage = self._usages[number]
        assert usage.live_bytes == 0
        usage.is_removed = True
        usage.tombstone_bytes = {}
        self._changed_segments[number] = None
        for other in self._usages.values():
            if other.tombstone_bytes.pop(number, None) is not None:
                self._changed_segments[other.number] = None

    def forget_segment(self, number: int) -> None:
        """The file of a retired segment is gone, durably."""
        assert self._usages[number].is_removed
        del self._usages[number]
        self._changed_segments[number] = None

    def distrust(self) -> None:
        """The index was caught lying: from the next checkpoint on it has none, so the next start
        rebuilds it."""
        self._is_suspect = True

    def checkpoint(self) -> None:
        """Write all changes in one commit; durable when it returns. Raises what the engine raises:
        then nothing is forgotten and the next one carries it all."""
        assert self._is_loaded
        assert len(self._recent) <= RECENT_RECORDS_MAX + INDEX_CHECKPOINT_RECORDS
        puts: dict[bytes, bytes] = {}
        deletes: list[bytes] = []
        for block_id, location in self._recent.items():
            if location is None:
                deletes.append(_BLOCK + block_id)
            else:
                puts[_BLOCK + block_id] = _encode(location)
        for number in self._changed_segments:
            usage = self._usages.get(number)
            if usage is None:
                deletes.append(_segment_key(number))
            else:
                puts[_segment_key(number)] = _encode(usage)
        checkpoint = _Checkpoint(server_id=self._server_id, block_count=self._block_count)
        if self._is_suspect:
            deletes.append(_CHECKPOINT_KEY)
        else:
            puts[_CHECKPOINT_KEY] = _encode(checkpoint)
        self._engine.commit({}, puts, deletes)
        self._recent.clear()
        self._changed_segments.clear()

    def _release(self, location: BlockLocation | None) -> None:
        """A copy that was had is not any more. Bad copies were released when they were found."""
        if location is not None and not location.is_bad:
            self._count_live(location, -1)
            self._block_count -= 1
            assert self._block_count >= 0

    def _count_live(self, location: BlockLocation, sign: int) -> None:
        usage = self._usages[location.segment]
        usage.live_bytes += sign * location.record_bytes
        assert usage.live_bytes >= 0
        self._changed_segments[location.segment] = None


def _segment_key(number: int) -> bytes:
    return _SEGMENT + number.to_bytes(8, "big")


def _after_prefix(prefix: bytes) -> bytes:
    assert prefix[-1] < 0xFF
    return prefix[:-1] + bytes((prefix[-1] + 1,))


def _encode(value: object) -> bytes:
    return bytes((INDEX_FORMAT_VERSION,)) + _encoder.encode(value)


def _decode(decoder: msgspec.msgpack.Decoder[T], value: bytes) -> T:
    if not value:
        raise EngineDamaged("the index holds an empty value")
    if value[0] > INDEX_FORMAT_VERSION:
        raise FormatTooNew(
            f"index format {value[0]} was written by a newer dfs; "
            f"this one reads up to {INDEX_FORMAT_VERSION}"
        )
    try:
        return decoder.decode(memoryview(value)[1:])
    except msgspec.DecodeError as error:
        raise EngineDamaged(f"the index holds a value that makes no sense: {error}") from error
