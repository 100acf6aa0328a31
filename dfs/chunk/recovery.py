"""Start of a store: bring the index up to what the segments hold, cut a torn tail.

A tail that cannot be read is not cut: what was promised may be in it. The next segment is begun.

Blocking, before anything else runs. The segments are the truth; the index is only a shortcut to it:

    index                                      done
    has a checkpoint and fits the segments     replay what lies above the checkpoint
    none, or does not fit                      clear it and replay every segment
    cannot be read (EngineDamaged)             the caller makes a new engine and comes again

Replaying is idempotent: a put makes its place the block's place, a tombstone kills exactly the
copy it names. The newest segment was being written when the process ended: its payloads are
checked, and it is synced before anything in it counts, since what a killed process left in the page
cache is not yet on stable storage (I3).
"""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING, Final

import msgspec

from dfs.chunk.index import BlockLocation
from dfs.chunk.segment_log import (
    SEGMENTS_DIRECTORY,
    disk_failure,
    list_segments,
    segment_name,
)
from dfs.core.segment_scan import Found, Skipped, Torn, Want, scan_segment
from dfs.core.segments import (
    SEGMENT_HEADER_BYTES,
    SegmentRecord,
    Tombstone,
    check_segment_header,
    decode_segment_header,
    encode_segment_header,
    segment_key,
)
from dfs.limits import INDEX_CHECKPOINT_RECORDS, MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dfs.chunk.disk import Disk
    from dfs.chunk.identity import Identity
    from dfs.chunk.index import BlockIndex

READ_TRIES: Final = 3
_PROGRESS_BYTES: Final = 1024 * MIB

logger = logging.getLogger(__name__)


class Recovered(msgspec.Struct, frozen=True):
    """Where writing goes on."""

    number: int
    """The newest segment; 0 when there is none yet."""
    end: int
    is_writable: bool
    """False: its own header is damaged, begin the next one."""


def recover(disk: Disk, index: BlockIndex, identity: Identity) -> Recovered:
    """Load the index, bring it up to date, and write a checkpoint.

    Raises EngineDamaged (the index is of no use), FormatTooNew, WrongCluster, DfsError (the disk
    fails).
    """
    try:
        return _Recovery(disk, index, identity).run()
    except OSError as error:
        raise disk_failure(error, "the segments cannot be read") from error


def scan_file(
    disk: Disk,
    key: bytes,
    number: int,
    start: int,
    end: int,
    *,
    is_payload_checked: bool,
    on_unreadable: Callable[[], None] = lambda: None,
) -> Iterator[Found | Skipped | Torn]:
    """Walk the records in [start, end) of a segment file. What cannot be read counts as damage, and
    `on_unreadable` hears of it."""
    name = segment_name(number)
    scan = scan_segment(key, start, end, is_payload_checked=is_payload_checked)
    data: bytes | None = None
    while True:
        try:
            event = scan.send(data)
        except StopIteration:
            return
        data = None
        if isinstance(event, Want):
            data = _read(disk, name, event)
            if data is None:
                on_unreadable()
                data = b""
        else:
            yield event


def _read(disk: Disk, name: str, want: Want) -> bytes | None:
    """The bytes; None when the disk cannot read them, however often it is asked."""
    for _ in range(READ_TRIES):
        try:
            return disk.read_at(name, want.offset, want.length)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
    logger.warning("%s: bytes from %d cannot be read: EIO", name, want.offset)
    return None


class _Recovery:
    def __init__(self, disk: Disk, index: BlockIndex, identity: Identity) -> None:
        self._disk = disk
        self._index = index
        self._identity = identity
        self._replayed_bytes = 0
        self._replayed_count = 0
        self._is_rebuild = False
        self._is_unreadable = False
        """Part of the segment at hand cannot be read: it may hold blocks that were promised."""

    def run(self) -> Recovered:
        numbers = list_segments(self._disk)
        is_loaded = self._index.load()
        reason = self._misfit(numbers) if is_loaded else "it is missing"
        if reason:
            self._is_rebuild = True
            if numbers or is_loaded:
                logger.warning("index: %s; rebuilding it from %d segments", reason, len(numbers))
            self._index.clear()
        self._finish_removals(numbers)
        recovered = self._replay(list_segments(self._disk))
        self._index.checkpoint()
        if self._is_rebuild and numbers:
            logger.warning("index: rebuilt, %d blocks", self._index.block_count)
        return recovered

    def _misfit(self, numbers: list[int]) -> str:
        """Why the index cannot be about these segments; empty when it can."""
        on_disk = dict.fromkeys(numbers)
        newest = 0
        for usage in self._index.usages:
            newest = usage.number
            if usage.number not in on_disk:
                return f"segment {usage.number} is gone"
            size = self._disk.size(segment_name(usage.number))
            if size < usage.end_bytes:
                return f"segment {usage.number} has {size} bytes, {usage.end_bytes} are indexed"
        known = dict.fromkeys(usage.number for usage in self._index.usages)
        known.update(dict.fromkeys(self._index.removed_segments))
        for number in numbers:
            if number < newest and number not in known:
                return f"it does not know segment {number}"
        return ""

    def _finish_removals(self, numbers: list[int]) -> None:
        """Remove the files of segments that were retired before the process ended."""
        removed = self._index.removed_segments
        for number in removed:
            if number in numbers:
                self._disk.remove(segment_name(number))
        if removed:
            self._disk.sync_directory(SEGMENTS_DIRECTORY)
        for number in removed:
            self._index.forget_segment(number)

    def _replay(self, numbers: list[int]) -> Recovered:
        ends = {usage.number: usage.end_bytes for usage in self._index.usages}
        newest_indexed = max(ends, default=0)
        newest = max(numbers, default=0)
        recovered = Recovered(number=newest, end=SEGMENT_HEADER_BYTES, is_writable=False)
        for number in numbers:
            if number < newest_indexed:
                continue  # sealed and indexed: what lies behind its end does not count
            start = ends.get(number, SEGMENT_HEADER_BYTES)
            recovered = self._replay_segment(number, start, is_newest=number == newest)
        assert recovered.number == newest
        return recovered

    def _replay_segment(self, number: int, start: int, *, is_newest: bool) -> Recovered:
        name = segment_name(number)
        size = self._restore_start(number)
        if is_newest:
            self._disk.sync(name)
            self._disk.sync_directory(SEGMENTS_DIRECTORY)
        is_whole = self._check_header(number)
        if number not in {usage.number for usage in self._index.usages}:
            self._index.begin_segment(number)
        self._is_unreadable = False
        end = self._replay_records(number, start, size, is_newest=is_newest)
        is_writable = is_newest and is_whole and not self._is_unreadable
        if is_writable and end < size:
            self._disk.truncate(name, end)
            self._disk.sync(name)
        return Recovered(number=number, end=end, is_writable=is_writable)

    def _restore_start(self, number: int) -> int:
        """A segment too short for its own header holds nothing: write the header. Returns the
        size."""
        name = segment_name(number)
        size = self._disk.size(name)
        if size >= SEGMENT_HEADER_BYTES:
            return size
        logger.info("segment %d: has only %d bytes, begun anew", number, size)
        self._disk.write_at(name, 0, [encode_segment_header(self._identity.segment_header(number))])
        self._disk.sync(name)
        return SEGMENT_HEADER_BYTES

    def _check_header(self, number: int) -> bool:
        name = segment_name(number)
        header = decode_segment_header(self._disk.read_at(name, 0, SEGMENT_HEADER_BYTES))
        if header is None:
            logger.warning("segment %d: its file header is damaged", number)
            return False
        check_segment_header(header, number, self._identity.server_id)
        return True

    def _replay_records(self, number: int, start: int, size: int, *, is_newest: bool) -> int:
        """Index the records in [start, size). Returns where the whole ones end."""
        key = segment_key(self._identity.server_id, number)
        end = start
        for event in scan_file(
            self._disk,
            key,
            number,
            start,
            size,
            is_payload_checked=is_newest,
            on_unreadable=self._note_unreadable,
        ):
            if isinstance(event, Found):
                self._index_record(number, event.record)
                end = event.record.end
            else:
                _report(number, event, size, is_cut=is_newest and not self._is_unreadable)
        return end

    def _note_unreadable(self) -> None:
        self._is_unreadable = True

    def _index_record(self, number: int, record: SegmentRecord) -> None:
        if isinstance(record.header, Tombstone):
            self._index_tombstone(number, record, record.header)
        else:
            location = BlockLocation(
                segment=number,
                offset=record.offset,
                header_bytes=record.header_bytes,
                payload_bytes=record.payload_bytes,
            )
            self._index.advance(number, record.end)
            self._index.place(record.block_id, location)
        self._count(record.end - record.offset)

    def _index_tombstone(self, number: int, record: SegmentRecord, tombstone: Tombstone) -> None:
        self._index.advance(number, record.end)
        current = self._index.get([tombstone.block_id])[0]
        is_target = (
            current is not None
            and current.segment == tombstone.segment
            and current.offset == tombstone.offset
        )
        if is_target:
            self._index.remove(tombstone.block_id)
        self._index.count_tombstone(number, tombstone.segment, record.end - record.offset)

    def _count(self, record_bytes: int) -> None:
        """Write checkpoints on the way, so that a long rebuild goes on where it was stopped."""
        before = self._replayed_bytes // _PROGRESS_BYTES
        self._replayed_bytes += record_bytes
        self._replayed_count += 1
        if self._index.recent_count >= INDEX_CHECKPOINT_RECORDS:
            self._index.checkpoint()
        if self._replayed_bytes // _PROGRESS_BYTES > before:
            logger.info(
                "index: replayed %d records, %d MiB",
                self._replayed_count,
                self._replayed_bytes // MIB,
            )


def _report(number: int, event: Skipped | Torn, size: int, *, is_cut: bool) -> None:
    """A torn tail of the newest segment is what a crash leaves; everything else is damage."""
    if isinstance(event, Skipped):
        skipped = event.end - event.start
        place = f"damage at {event.start}, {skipped} bytes skipped"
    else:
        fate = "cut" if is_cut else "lost"
        place = f"torn at {event.cut_at}, {size - event.cut_at} bytes {fate}"
    is_expected = is_cut and isinstance(event, Torn)
    level = logging.INFO if is_expected else logging.WARNING
    logger.log(level, "segment %d: %s: %s", number, place, event.reason)
