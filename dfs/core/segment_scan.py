"""The walk over a segment's records: what is whole, what is damaged, where a torn tail begins.

Pure: the walk says which bytes it wants and is sent them. What it sees at an offset:

    header and payload whole        Found     go on behind it
    anything else, records follow   Skipped   damage in the middle, go on at the next whole record
    anything else, none follow      Torn      the tail: cut here if the segment was being written
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

import msgspec

from dfs.core.segments import (
    RECORD_MAGIC,
    SEGMENT_HEADER_BYTES,
    Damaged,
    NeedMore,
    SegmentRecord,
    parse_record,
    payload_checksum,
)
from dfs.limits import KIB, MIB

_HEADER_WINDOW_BYTES: Final = 4 * KIB
_SEARCH_WINDOW_BYTES: Final = 1 * MIB


class Want(msgspec.Struct, frozen=True):
    """The walk needs these bytes of the segment; fewer may be sent (the rest counts as damage)."""

    offset: int
    length: int


class Found(msgspec.Struct, frozen=True):
    record: SegmentRecord


class Skipped(msgspec.Struct, frozen=True):
    """[start, end) holds no readable record, but one follows."""

    start: int
    end: int
    reason: str


class Torn(msgspec.Struct, frozen=True):
    """From `cut_at` to the end there is no whole record."""

    cut_at: int
    reason: str


ScanEvent = Want | Found | Skipped | Torn

Scan = Generator[ScanEvent, bytes | None, None]


def scan_segment(key: bytes, start: int, end: int, *, is_payload_checked: bool) -> Scan:
    """Walks the records in [start, end) of a segment: `send` it the bytes after each Want, None
    after every other event. Torn, if it comes, is last. Raises FormatTooNew.

    With `is_payload_checked` a record counts only if its payload is whole too; without, payloads
    are not even read.
    """
    assert start >= SEGMENT_HEADER_BYTES
    offset = start
    damage_start = -1
    damage = Damaged("")
    while offset < end:
        outcome = yield from _record_at(key, offset, end, is_payload_checked=is_payload_checked)
        if isinstance(outcome, SegmentRecord):
            if damage_start >= 0:
                yield Skipped(damage_start, offset, damage.reason)
                damage_start = -1
            yield Found(outcome)
            assert outcome.end > offset
            offset = outcome.end
            continue
        if damage_start < 0:
            damage_start, damage = offset, outcome
        offset = yield from _next_candidate(offset + 1, end)
    if damage_start >= 0:
        yield Torn(damage_start, damage.reason)


def _record_at(
    key: bytes, offset: int, end: int, *, is_payload_checked: bool
) -> Generator[ScanEvent, bytes | None, SegmentRecord | Damaged]:
    data = yield from _bytes_of(offset, min(_HEADER_WINDOW_BYTES, end - offset))
    outcome = parse_record(key, offset, data)
    if isinstance(outcome, NeedMore) and outcome.length <= end - offset:
        data = yield from _bytes_of(offset, outcome.length)
        outcome = parse_record(key, offset, data)
    if isinstance(outcome, NeedMore):
        return Damaged("a record's header is cut off")
    if isinstance(outcome, Damaged):
        return outcome
    if outcome.end > end:
        return Damaged("a record's payload is cut off")
    if is_payload_checked:
        payload = yield from _bytes_of(outcome.payload_offset, outcome.payload_bytes)
        if payload_checksum(payload) != outcome.payload_checksum:
            return Damaged("a record's payload does not match its checksum")
    return outcome


def _bytes_of(offset: int, length: int) -> Generator[ScanEvent, bytes | None, bytes]:
    if length == 0:
        return b""
    data = yield Want(offset, length)
    assert data is not None
    assert len(data) <= length
    return data


def _next_candidate(offset: int, end: int) -> Generator[ScanEvent, bytes | None, int]:
    """Where the record magic appears next, or `end`."""
    while offset < end:
        length = min(_SEARCH_WINDOW_BYTES, end - offset)
        data = yield from _bytes_of(offset, length)
        position = data.find(RECORD_MAGIC)
        if position >= 0:
            return offset + position
        # The magic may straddle two windows.
        offset += max(1, length - len(RECORD_MAGIC) + 1)
    return end
