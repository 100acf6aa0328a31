"""The bytes of a segment: its file header and its records. `segment_scan.py` walks them.

`docs/disk_format.md` (section "Chunk server") is this page for people. A record is bound to its
place: its header checksum covers the server, the segment's number and the record's offset. Bytes of
a segment that were stored *inside* a block, or written to the wrong place, are therefore never
taken for records.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

import msgspec
from blake3 import blake3

from dfs.core.messages import BlockHeader
from dfs.errors import FormatTooNew, WrongCluster
from dfs.limits import BLOCK_ID_BYTES, KIB, PACKET_PAYLOAD_BYTES_MAX
from dfs.types import BlockId, ClusterId, ServerId

Buffer = bytes | bytearray | memoryview

SEGMENT_FORMAT_VERSION: Final = 1
SEGMENT_MAGIC: Final = b"\xd5dfS"
RECORD_MAGIC: Final = b"\xd5dfR"
RECORD_HEADER_BYTES_MAX: Final = 64 * KIB
PAYLOAD_CHECKSUM_BYTES: Final = 16

# Frozen for all versions: a newer version may change what headers hold, never these layouts.
_FILE_HEADER: Final = struct.Struct(">4sB3xQ16s32s")
_PRELUDE: Final = struct.Struct(">4sBBxxII16s")
_CHECKSUM_BYTES: Final = 8
SEGMENT_HEADER_BYTES: Final = _FILE_HEADER.size + _CHECKSUM_BYTES

assert SEGMENT_HEADER_BYTES == 72
assert _PRELUDE.size == 32


class RecordKind(IntEnum):
    """What a record does. Numbers never change meaning."""

    PUT = 1
    DELETE = 2


class Tombstone(msgspec.Struct, frozen=True, array_like=True):
    """Header of a DELETE record: the copy at this place is dead. Copies elsewhere are not meant,
    so a tombstone may be replayed late or twice."""

    block_id: BlockId
    segment: int
    offset: int


class SegmentHeader(msgspec.Struct, frozen=True):
    """The first bytes of a segment: whose it is."""

    number: int
    """Position in the order of writing, from 1."""
    server_id: ServerId
    cluster_id: ClusterId
    """Empty when the server did not know its cluster yet."""


class SegmentRecord(msgspec.Struct, frozen=True):
    """One record where it was found. `header` says what; the payload lies at
    [payload_offset, end)."""

    offset: int
    kind: RecordKind
    header: BlockHeader | Tombstone
    header_bytes: int
    payload_bytes: int
    payload_checksum: bytes

    @property
    def block_id(self) -> BlockId:
        return self.header.block_id

    @property
    def payload_offset(self) -> int:
        return self.offset + _PRELUDE.size + self.header_bytes + _CHECKSUM_BYTES

    @property
    def end(self) -> int:
        return self.payload_offset + self.payload_bytes


class NeedMore(msgspec.Struct, frozen=True):
    """The record's header is longer than the bytes at hand; this many from its start are needed."""

    length: int


class Damaged(msgspec.Struct, frozen=True):
    """No record starts here."""

    reason: str


_encoder = msgspec.msgpack.Encoder()
_header_decoders: dict[RecordKind, msgspec.msgpack.Decoder[BlockHeader | Tombstone]] = {
    RecordKind.PUT: msgspec.msgpack.Decoder(BlockHeader),
    RecordKind.DELETE: msgspec.msgpack.Decoder(Tombstone),
}


def segment_key(server_id: ServerId, number: int) -> bytes:
    """The 32-byte key under which checksums of one segment's headers are made. It is computed from
    what the file's name and the server know, so a damaged file header loses no record."""
    assert number > 0
    assert server_id
    return blake3(f"dfs segment {number} of server {server_id}".encode()).digest()


def payload_checksum(payload: Buffer) -> bytes:
    """Checksum of a record's payload as stored: tells a torn or flipped payload without
    decompressing it."""
    return blake3(payload).digest(PAYLOAD_CHECKSUM_BYTES)


def record_bytes(header_bytes: int, payload_bytes: int) -> int:
    """Bytes that a record takes in its segment."""
    assert header_bytes > 0
    assert payload_bytes >= 0
    return _PRELUDE.size + header_bytes + _CHECKSUM_BYTES + payload_bytes


def encode_header(header: BlockHeader | Tombstone) -> bytes:
    """The header of a PUT or DELETE record as it is stored."""
    assert len(header.block_id) == BLOCK_ID_BYTES
    encoded = _encoder.encode(header)
    assert 0 < len(encoded) <= RECORD_HEADER_BYTES_MAX
    return encoded


def encode_record_start(
    key: bytes,
    offset: int,
    kind: RecordKind,
    encoded_header: bytes,
    payload: tuple[int, bytes],
) -> bytes:
    """Everything of a record before its payload. `payload` is its length and its checksum;
    `offset` is where the record will lie."""
    payload_bytes, checksum = payload
    assert offset >= SEGMENT_HEADER_BYTES
    assert 0 <= payload_bytes <= PACKET_PAYLOAD_BYTES_MAX
    assert len(checksum) == PAYLOAD_CHECKSUM_BYTES
    prelude = _PRELUDE.pack(
        RECORD_MAGIC, SEGMENT_FORMAT_VERSION, kind, len(encoded_header), payload_bytes, checksum
    )
    start = prelude + encoded_header
    return start + _header_checksum(key, offset, start)


def encode_segment_header(header: SegmentHeader) -> bytes:
    """The first SEGMENT_HEADER_BYTES of a segment."""
    assert header.number > 0
    fields = _FILE_HEADER.pack(
        SEGMENT_MAGIC,
        SEGMENT_FORMAT_VERSION,
        header.number,
        header.server_id.encode("ascii"),
        header.cluster_id.encode("ascii"),
    )
    key = segment_key(header.server_id, header.number)
    encoded = fields + _header_checksum(key, 0, fields)
    assert len(encoded) == SEGMENT_HEADER_BYTES
    return encoded


def decode_segment_header(data: Buffer) -> SegmentHeader | None:
    """The header that a segment starts with; None when it is damaged or torn. Raises
    FormatTooNew."""
    if len(data) < SEGMENT_HEADER_BYTES:
        return None
    fields = bytes(data[: _FILE_HEADER.size])
    magic, version, number, server_id, cluster_id = _FILE_HEADER.unpack(fields)
    if magic != SEGMENT_MAGIC or number == 0:
        return None
    try:
        server = ServerId(server_id.rstrip(b"\0").decode("ascii"))
        cluster = ClusterId(cluster_id.rstrip(b"\0").decode("ascii"))
    except UnicodeDecodeError:
        return None
    checksum = bytes(data[_FILE_HEADER.size : SEGMENT_HEADER_BYTES])
    if not server or checksum != _header_checksum(segment_key(server, number), 0, fields):
        return None
    _refuse_newer(version)
    return SegmentHeader(number=number, server_id=server, cluster_id=cluster)


def check_segment_header(header: SegmentHeader, number: int, server_id: ServerId) -> None:
    """Raises WrongCluster when a segment is not this server's segment `number`."""
    if header.server_id != server_id:
        raise WrongCluster(
            f"segment {number} belongs to chunk server {header.server_id}, not to {server_id}"
        )
    if header.number != number:
        raise WrongCluster(f"the file of segment {number} holds segment {header.number}")


def parse_record(key: bytes, offset: int, data: Buffer) -> SegmentRecord | NeedMore | Damaged:
    """The record whose bytes start at `data[0]`, at `offset` of its segment. The payload need not
    be at hand and is not checked. Raises FormatTooNew."""
    if len(data) < _PRELUDE.size:
        return NeedMore(_PRELUDE.size)
    magic, version, kind, header_bytes, payload_bytes, checksum = _PRELUDE.unpack_from(data)
    if magic != RECORD_MAGIC:
        return Damaged("no record starts here")
    is_plausible = 0 < header_bytes <= RECORD_HEADER_BYTES_MAX
    if not is_plausible or payload_bytes > PACKET_PAYLOAD_BYTES_MAX:
        return Damaged("a record's lengths make no sense")
    header_end = _PRELUDE.size + header_bytes
    if len(data) < header_end + _CHECKSUM_BYTES:
        return NeedMore(header_end + _CHECKSUM_BYTES)
    stored = bytes(data[header_end : header_end + _CHECKSUM_BYTES])
    if stored != _header_checksum(key, offset, bytes(data[:header_end])):
        return Damaged("a record's header does not match its checksum")
    _refuse_newer(version)
    header = _decode_header(kind, bytes(data[_PRELUDE.size : header_end]))
    if header is None:
        return Damaged("a record's header makes no sense")
    return SegmentRecord(
        offset=offset,
        kind=RecordKind(kind),
        header=header,
        header_bytes=header_bytes,
        payload_bytes=payload_bytes,
        payload_checksum=checksum,
    )


def _decode_header(kind: int, encoded: bytes) -> BlockHeader | Tombstone | None:
    try:
        header = _header_decoders[RecordKind(kind)].decode(encoded)
    except (ValueError, msgspec.DecodeError):
        return None
    return header if len(header.block_id) == BLOCK_ID_BYTES else None


def _refuse_newer(version: int) -> None:
    if version > SEGMENT_FORMAT_VERSION:
        raise FormatTooNew(
            f"segment format {version} was written by a newer dfs; "
            f"this one reads up to {SEGMENT_FORMAT_VERSION}"
        )


def _header_checksum(key: bytes, offset: int, start: bytes) -> bytes:
    hasher = blake3(offset.to_bytes(8, "big"), key=key)
    return hasher.update(start).digest(_CHECKSUM_BYTES)
