"""Goal: the walk finds every whole record, and says exactly where damage is and where a tail is
torn.

Method: a segment cut at every point, and with every kind of damage."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from dfs.core.messages import BlockHeader, FrameHeader
from dfs.core.segment_scan import Found, ScanEvent, Skipped, Torn, Want, scan_segment
from dfs.core.segments import (
    RECORD_MAGIC,
    SEGMENT_HEADER_BYTES,
    RecordKind,
    Tombstone,
    encode_header,
    encode_record_start,
    payload_checksum,
    segment_key,
)
from dfs.limits import MIB
from dfs.types import BlockId, ServerId

if TYPE_CHECKING:
    from collections.abc import Sequence

KEY = segment_key(ServerId("00112233445566aa"), 3)


def record(offset: int, number: int, payload: bytes, *, frames: int = 1) -> bytes:
    block_id = BlockId(bytes((number,)) * 32)
    header = BlockHeader(block_id, 1, (FrameHeader(b"h" * 32, 1, False),) * frames)
    start = (len(payload), payload_checksum(payload))
    return encode_record_start(KEY, offset, RecordKind.PUT, encode_header(header), start) + payload


def tombstone(offset: int, number: int) -> bytes:
    header = Tombstone(BlockId(bytes((number,)) * 32), 1, 72)
    nothing = (0, payload_checksum(b""))
    return encode_record_start(KEY, offset, RecordKind.DELETE, encode_header(header), nothing)


class Segment:
    """Records one after the other; `starts` holds where each begins, and the end."""

    def __init__(self, payloads: Sequence[bytes | None]) -> None:
        self.data = bytearray(SEGMENT_HEADER_BYTES)
        self.starts: list[int] = []
        for number, payload in enumerate(payloads):
            self.starts.append(len(self.data))
            if payload is None:
                self.data += tombstone(len(self.data), number)
            else:
                self.data += record(len(self.data), number, payload)
        self.starts.append(len(self.data))


def walk(data: bytes | bytearray, *, is_payload_checked: bool = True) -> list[ScanEvent]:
    """Events other than Want; checks that the walk asks only for what there is."""
    scan = scan_segment(KEY, SEGMENT_HEADER_BYTES, len(data), is_payload_checked=is_payload_checked)
    events: list[ScanEvent] = []
    sent: bytes | None = None
    try:
        while True:
            event = scan.send(sent)
            sent = None
            if isinstance(event, Want):
                assert event.length > 0
                assert event.offset >= SEGMENT_HEADER_BYTES
                assert event.offset + event.length <= len(data)
                sent = bytes(data[event.offset : event.offset + event.length])
            else:
                events.append(event)
    except StopIteration:
        return events


def found(events: Sequence[ScanEvent]) -> list[int]:
    return [event.record.offset for event in events if isinstance(event, Found)]


PAYLOADS = [b"a" * 10, b"b" * 5000, None, b"c", None, b"d" * 100]


def test_whole_segment() -> None:
    segment = Segment(PAYLOADS)
    for is_payload_checked in (True, False):
        events = walk(segment.data, is_payload_checked=is_payload_checked)
        assert len(events) == len(PAYLOADS)
        assert found(events) == segment.starts[:-1]


def test_empty_segment() -> None:
    assert walk(bytes(SEGMENT_HEADER_BYTES)) == []


def test_every_cut_point() -> None:
    segment = Segment([b"a" * 10, None, b"b" * 50])
    for cut in range(SEGMENT_HEADER_BYTES, len(segment.data) + 1):
        events = walk(segment.data[:cut])
        whole = [s for s, e in zip(segment.starts, segment.starts[1:], strict=False) if e <= cut]
        assert found(events) == whole
        boundary = max(start for start in segment.starts if start <= cut)
        if cut == boundary:
            assert all(isinstance(event, Found) for event in events)
        else:
            assert isinstance(events[-1], Torn)
            assert events[-1].cut_at == boundary


def test_every_cut_point_filled_with_zeros() -> None:
    segment = Segment([b"a" * 10, b"b" * 50])
    for cut in range(segment.starts[1] + 1, len(segment.data)):
        torn = segment.data[:cut] + bytes(len(segment.data) - cut)
        events = walk(torn)
        assert found(events) == segment.starts[:1]
        assert isinstance(events[-1], Torn)
        assert events[-1].cut_at == segment.starts[1]


def test_every_flipped_byte_in_the_middle_costs_one_record() -> None:
    segment = Segment([b"a" * 10, b"b" * 50, b"c" * 10])
    start, end = segment.starts[1:3]
    for position in range(start, end):
        segment.data[position] ^= 0x04
        events = walk(segment.data)
        assert found(events) == [segment.starts[0], segment.starts[2]], position
        assert [(e.start, e.end) for e in events if isinstance(e, Skipped)] == [(start, end)]
        segment.data[position] ^= 0x04


def test_damage_over_several_records_is_one_gap() -> None:
    segment = Segment(PAYLOADS)
    segment.data[segment.starts[1] + 3 : segment.starts[4] + 3] = bytes(
        segment.starts[4] - segment.starts[1]
    )
    events = walk(segment.data)
    assert found(events) == [segment.starts[0], segment.starts[5]]
    assert [(e.start, e.end) for e in events if isinstance(e, Skipped)] == [
        (segment.starts[1], segment.starts[5])
    ]


def test_a_bad_payload_before_the_torn_tail_belongs_to_the_tail() -> None:
    segment = Segment([b"a" * 10, b"b" * 50, b"c" * 50])
    segment.data[segment.starts[2] - 1] ^= 1
    events = walk(segment.data[:-1])
    assert found(events) == segment.starts[:1]
    assert events[-1] == Torn(segment.starts[1], "a record's payload does not match its checksum")


def test_unchecked_payloads_are_not_read() -> None:
    segment = Segment([b"a" * MIB, b"b" * 50])
    segment.data[segment.starts[1] - 1] ^= 1
    assert found(walk(segment.data, is_payload_checked=False)) == segment.starts[:2]
    assert found(walk(segment.data)) == segment.starts[1:2]


def test_records_inside_a_payload_are_not_taken_for_records() -> None:
    inner = bytes(Segment([b"inner" * 10, b"other"]).data)
    segment = Segment([b"x" * 7 + inner + RECORD_MAGIC * 3, b"last"])
    segment.data[segment.starts[0] + 5] ^= 1
    events = walk(segment.data)
    assert found(events) == segment.starts[1:2]
    assert events[0] == Skipped(
        *segment.starts[:2], "a record's header does not match its checksum"
    )


def test_the_magic_is_found_across_windows_of_the_search() -> None:
    for extra in range(6):
        segment = Segment([b"z" * (MIB - 150 + extra), b"second"])
        segment.data[segment.starts[0]] ^= 1
        assert found(walk(segment.data)) == segment.starts[1:2]


def test_a_header_longer_than_the_first_look() -> None:
    data = bytes(SEGMENT_HEADER_BYTES) + record(SEGMENT_HEADER_BYTES, 1, b"p" * 9, frames=128)
    assert found(walk(data)) == [SEGMENT_HEADER_BYTES]
    events = walk(data[:4500])
    assert events == [Torn(SEGMENT_HEADER_BYTES, "a record's header is cut off")]


def test_unreadable_stretches_count_as_damage() -> None:
    segment = Segment([b"a" * 10, b"b" * 9000, b"c" * 10])
    bad = range(segment.starts[1], segment.starts[1] + 512)
    scan = scan_segment(KEY, SEGMENT_HEADER_BYTES, len(segment.data), is_payload_checked=True)
    seen: list[ScanEvent] = []
    sent: bytes | None = None
    for _ in range(100):
        try:
            event = scan.send(sent)
        except StopIteration:
            break
        sent = None
        if isinstance(event, Want):
            is_bad = event.offset in bad
            sent = b"" if is_bad else bytes(segment.data[event.offset :][: event.length])
        else:
            seen.append(event)
    assert found(seen)[0] == segment.starts[0]
    assert isinstance(seen[-1], Found | Torn)


def test_random_damage_never_invents_a_record() -> None:
    chooser = random.Random(5)
    segment = Segment([chooser.randbytes(chooser.randrange(1, 3000)) for _ in range(12)])
    for _ in range(200):
        data = bytearray(segment.data)
        for _ in range(chooser.randrange(1, 6)):
            start = chooser.randrange(SEGMENT_HEADER_BYTES, len(data))
            data[start : start + 40] = chooser.randbytes(len(data[start : start + 40]))
        events = walk(data)
        assert set(found(events)) <= set(segment.starts)
        for event in events:
            if isinstance(event, Found):
                end = segment.starts[segment.starts.index(event.record.offset) + 1]
                assert event.record.end == end
                assert data[event.record.offset : end] == segment.data[event.record.offset : end]
