"""Goal: the bytes of a segment are pinned, and damage to them is always told.

Method: golden bytes, and every single flipped byte."""

from __future__ import annotations

import random

import pytest

from dfs.core.messages import BlockHeader, FrameHeader
from dfs.core.segments import (
    RECORD_HEADER_BYTES_MAX,
    SEGMENT_HEADER_BYTES,
    Damaged,
    NeedMore,
    RecordKind,
    SegmentHeader,
    SegmentRecord,
    Tombstone,
    check_segment_header,
    decode_segment_header,
    encode_header,
    encode_record_start,
    encode_segment_header,
    parse_record,
    payload_checksum,
    record_bytes,
    segment_key,
)
from dfs.errors import FormatTooNew, WrongCluster
from dfs.types import BlockId, ClusterId, ServerId

SERVER = ServerId("00112233445566aa")
CLUSTER = ClusterId("0123456789abcdef0123456789abcdef")
HEADER = SegmentHeader(number=7, server_id=SERVER, cluster_id=CLUSTER)
KEY = segment_key(SERVER, 7)
BLOCK = BlockHeader(BlockId(b"\x01" * 32), 5, (FrameHeader(b"\x02" * 32, 5, False),))
PAYLOAD = b"hello"
GOLDEN_FILE_CHECKSUM = "0c1673943d4fe15e"
GOLDEN_PUT_CHECKSUM = "837fc074485b7b6c"


def put_record(offset: int = SEGMENT_HEADER_BYTES, payload: bytes = PAYLOAD) -> bytes:
    checksum = payload_checksum(payload)
    start = encode_record_start(
        KEY, offset, RecordKind.PUT, encode_header(BLOCK), (len(payload), checksum)
    )
    return start + payload


def test_golden_segment_header() -> None:
    assert encode_segment_header(HEADER).hex() == (
        "d5646653"  # magic
        "01000000"  # format version, three zeros
        "0000000000000007"  # number
        + SERVER.encode().hex()
        + CLUSTER.encode().hex()
        + GOLDEN_FILE_CHECKSUM
    )


def test_golden_put_record() -> None:
    assert put_record().hex() == (
        "d5646652"  # magic
        "01010000"  # format version, PUT, two zeros
        "0000004a"  # header bytes
        "00000005"  # payload bytes
        + payload_checksum(PAYLOAD).hex()
        + "93c420" + "01" * 32 + "0591" + "93c420" + "02" * 32 + "05c2"
        + GOLDEN_PUT_CHECKSUM
        + PAYLOAD.hex()
    )  # fmt: skip


def test_golden_tombstone() -> None:
    encoded = encode_header(Tombstone(BlockId(b"\x01" * 32), 3, 4096))
    assert encoded.hex() == "93c420" + "01" * 32 + "03" + "cd1000"


def test_golden_payload_checksum() -> None:
    assert payload_checksum(b"").hex() == "af1349b9f5f9a1a6a0404dea36dcc949"


def test_segment_header_comes_back() -> None:
    encoded = encode_segment_header(HEADER)
    assert len(encoded) == SEGMENT_HEADER_BYTES
    assert decode_segment_header(encoded + b"more") == HEADER
    young = SegmentHeader(number=1, server_id=SERVER, cluster_id=ClusterId(""))
    assert decode_segment_header(encode_segment_header(young)) == young


def test_every_flipped_byte_of_a_segment_header_is_noticed() -> None:
    encoded = encode_segment_header(HEADER)
    for position in range(len(encoded)):
        flipped = bytearray(encoded)
        flipped[position] ^= 1 << position % 8
        assert decode_segment_header(flipped) is None, position
    for length in range(len(encoded)):
        assert decode_segment_header(encoded[:length]) is None


def test_a_segment_of_someone_else() -> None:
    check_segment_header(HEADER, 7, SERVER)
    with pytest.raises(WrongCluster, match="belongs to chunk server 00112233445566aa"):
        check_segment_header(HEADER, 7, ServerId("ffffffffffffffff"))
    with pytest.raises(WrongCluster, match="holds segment 7"):
        check_segment_header(HEADER, 8, SERVER)


def test_a_newer_format_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfs.core.segments.SEGMENT_FORMAT_VERSION", 2)
    file_header, record = encode_segment_header(HEADER), put_record()
    monkeypatch.undo()
    with pytest.raises(FormatTooNew, match="segment format 2"):
        decode_segment_header(file_header)
    with pytest.raises(FormatTooNew, match="segment format 2"):
        parse_record(KEY, SEGMENT_HEADER_BYTES, record)


def test_a_record_comes_back() -> None:
    data = put_record()
    record = parse_record(KEY, SEGMENT_HEADER_BYTES, data)
    assert isinstance(record, SegmentRecord)
    assert record.kind is RecordKind.PUT
    assert record.header == BLOCK
    assert record.block_id == BLOCK.block_id
    assert record.end == SEGMENT_HEADER_BYTES + len(data)
    assert record.end - record.offset == record_bytes(record.header_bytes, len(PAYLOAD))
    assert data[record.payload_offset - record.offset :] == PAYLOAD
    assert record.payload_checksum == payload_checksum(PAYLOAD)


def test_a_tombstone_comes_back() -> None:
    tombstone = Tombstone(BLOCK.block_id, 3, 999)
    data = encode_record_start(
        KEY, 500, RecordKind.DELETE, encode_header(tombstone), (0, payload_checksum(b""))
    )
    record = parse_record(KEY, 500, data)
    assert isinstance(record, SegmentRecord)
    assert record.kind is RecordKind.DELETE
    assert record.header == tombstone
    assert record.payload_offset == record.end == 500 + len(data)


def test_every_cut_asks_for_more() -> None:
    data = put_record()
    needed = len(data) - len(PAYLOAD)
    for length in range(needed):
        outcome = parse_record(KEY, SEGMENT_HEADER_BYTES, data[:length])
        assert isinstance(outcome, NeedMore)
        assert length < outcome.length <= needed
    assert isinstance(parse_record(KEY, SEGMENT_HEADER_BYTES, data[:needed]), SegmentRecord)


def test_every_flipped_byte_before_the_payload_is_noticed() -> None:
    data = put_record()
    for position in range(len(data) - len(PAYLOAD)):
        flipped = bytearray(data)
        flipped[position] ^= 1 << position % 8
        outcome = parse_record(KEY, SEGMENT_HEADER_BYTES, flipped)
        # A flipped length may ask for bytes that are not there: the walk finds that out.
        assert isinstance(outcome, Damaged | NeedMore), position


def test_a_record_counts_only_in_its_own_place() -> None:
    data = put_record()
    assert isinstance(parse_record(KEY, SEGMENT_HEADER_BYTES + 1, data), Damaged)
    assert isinstance(parse_record(segment_key(SERVER, 8), SEGMENT_HEADER_BYTES, data), Damaged)
    stranger = segment_key(ServerId("ffffffffffffffff"), 7)
    assert isinstance(parse_record(stranger, SEGMENT_HEADER_BYTES, data), Damaged)


def test_a_valid_checksum_over_nonsense() -> None:
    checksum = payload_checksum(b"")
    for encoded in (b"\xc1", b"\x90", b"\x93\xc4\x01x\x03\x04", b"\xff" * 40):
        data = encode_record_start(KEY, 100, RecordKind.DELETE, encoded, (0, checksum))
        outcome = parse_record(KEY, 100, data)
        assert outcome == Damaged("a record's header makes no sense")


def test_impossible_lengths_ask_for_nothing() -> None:
    data = bytearray(put_record())
    data[8:12] = (RECORD_HEADER_BYTES_MAX + 1).to_bytes(4, "big")
    assert isinstance(parse_record(KEY, SEGMENT_HEADER_BYTES, data), Damaged)
    data = bytearray(put_record())
    data[12:16] = b"\xff" * 4
    assert isinstance(parse_record(KEY, SEGMENT_HEADER_BYTES, data), Damaged)


def test_payload_checksum_tells_every_flipped_byte() -> None:
    payload = bytearray(random.Random(1).randbytes(300))
    checksum = payload_checksum(payload)
    for position in range(len(payload)):
        payload[position] ^= 0x80
        assert payload_checksum(payload) != checksum
        payload[position] ^= 0x80
