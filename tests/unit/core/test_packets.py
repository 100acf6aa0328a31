"""Packets: whatever way the bytes are cut, the same packets come out; nonsense is refused."""

from __future__ import annotations

import itertools
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfs.core.messages import (
    PROTOCOL_VERSION,
    ChunkRequest,
    DeleteBlocks,
    Done,
    GetBlock,
    GetChunkStatus,
    Message,
)
from dfs.core.packets import (
    BUFFER_BYTES,
    MAGIC,
    PREFIX,
    Packet,
    PacketReader,
    encode_packet,
)
from dfs.errors import LocalProtocolError, RemoteProtocolError
from dfs.limits import KIB, MIB, PACKET_HEADER_BYTES_MAX, PACKET_PAYLOAD_BYTES_MAX
from dfs.types import BlockId

BLOCK = BlockId(bytes(range(32)))


def join(buffers: list[Any]) -> bytes:
    return b"".join(bytes(buffer) for buffer in buffers)


def read_all(reader: PacketReader[Any]) -> list[Packet[Any]]:
    packets = []
    while (packet := reader.next_packet()) is not None:
        packets.append(packet._replace(payload=bytes(packet.payload)))
    return packets


SAMPLES = [
    Packet(1, GetChunkStatus(), b""),
    Packet(2, GetBlock(block_id=BLOCK, first_frame=1, end_frame=3), b""),
    Packet(3, DeleteBlocks(block_ids=(BLOCK,) * 5), b"payload"),
    Packet(1 << 40, GetChunkStatus(), bytes(range(256)) * 3),
]
SAMPLE_BYTES = b"".join(join(encode_packet(*packet)) for packet in SAMPLES)


def test_golden_bytes() -> None:
    """The format is a contract with other releases: these bytes never change."""
    assert PROTOCOL_VERSION == 1
    golden = (
        b"dfs\x01"  # magic, version
        b"\x00\x00\x00\x0d"  # header bytes
        b"\x00\x00\x00\x03"  # payload bytes
        b"\x92\x07\x81\xa4type\xa4Done"  # [7, {"type": "Done"}]
        b"xyz"
    )
    assert join(encode_packet(7, Done(), b"xyz")) == golden
    reader: PacketReader[Any] = PacketReader(Done)
    reader.feed(golden)
    assert read_all(reader) == [Packet(7, Done(), b"xyz")]


@pytest.mark.parametrize("buffer_bytes", [13, 40, 100, BUFFER_BYTES])
def test_every_cut(buffer_bytes: int) -> None:
    """Cut the stream in two at every byte, with buffers smaller and larger than the packets."""
    for cut in range(len(SAMPLE_BYTES) + 1):
        reader: PacketReader[Any] = PacketReader(ChunkRequest, buffer_bytes=buffer_bytes)
        reader.feed(SAMPLE_BYTES[:cut])
        packets = read_all(reader)
        assert packets == SAMPLES[: len(packets)]
        reader.feed(SAMPLE_BYTES[cut:])
        packets += read_all(reader)
        assert packets == SAMPLES
        assert not reader.is_inside_packet


@pytest.mark.parametrize("buffer_bytes", [13, 64, BUFFER_BYTES])
def test_byte_by_byte(buffer_bytes: int) -> None:
    reader: PacketReader[Any] = PacketReader(ChunkRequest, buffer_bytes=buffer_bytes)
    packets = []
    for index in range(len(SAMPLE_BYTES)):
        reader.feed(SAMPLE_BYTES[index : index + 1])
        packets += read_all(reader)
    assert packets == SAMPLES


@given(
    payloads=st.lists(st.binary(max_size=300), max_size=8),
    cuts=st.lists(st.integers(0, 3000), max_size=12),
    buffer_bytes=st.sampled_from([13, 50, 128, 1024]),
    is_in_place=st.booleans(),
)
def test_any_cuts(
    payloads: list[bytes], cuts: list[int], buffer_bytes: int, is_in_place: bool
) -> None:
    """Both ways in, `feed` and `space`/`filled`, give the packets that were encoded."""
    sent = [Packet(i, GetChunkStatus(), payload) for i, payload in enumerate(payloads)]
    stream = b"".join(join(encode_packet(*packet)) for packet in sent)
    reader: PacketReader[Any] = PacketReader(ChunkRequest, buffer_bytes=buffer_bytes)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    received = read_all(reader)
    for start, end in itertools.pairwise(edges):
        piece = stream[start:end]
        if not is_in_place:
            reader.feed(piece)
            received += read_all(reader)
        while is_in_place and piece:
            space = reader.space()
            count = min(len(space), len(piece))
            space[:count] = piece[:count]
            reader.filled(count)
            piece = piece[count:]
            received += read_all(reader)
    assert received == sent
    assert not reader.is_inside_packet


def test_large_payload_is_received_in_place() -> None:
    """Behind the first buffer, space() is the payload's own memory: nothing is copied again."""
    payload = bytes(range(256)) * 4 * KIB
    stream = join(encode_packet(1, GetChunkStatus(), payload))
    reader: PacketReader[Any] = PacketReader(ChunkRequest)
    reader.feed(stream[:BUFFER_BYTES])
    assert reader.next_packet() is None
    assert reader.is_inside_body
    space = reader.space()
    assert len(space) == len(stream) - BUFFER_BYTES
    space[:] = stream[BUFFER_BYTES:]
    reader.filled(len(space))
    packet = reader.next_packet()
    assert packet is not None
    assert packet.payload == payload
    assert isinstance(packet.payload, memoryview)
    assert packet.payload.obj is space.obj
    assert not reader.is_inside_packet


def test_payloads_outlive_the_buffer() -> None:
    """A packet's payload does not change when later packets arrive."""
    reader: PacketReader[Any] = PacketReader(ChunkRequest)
    reader.feed(join(encode_packet(1, GetChunkStatus(), b"first")))
    first = reader.next_packet()
    reader.feed(join(encode_packet(2, GetChunkStatus(), b"other")) * 1000)
    assert len(read_all(reader)) == 1000
    assert first is not None
    assert first.payload == b"first"


def test_payload_parts_travel_as_one_and_are_not_copied() -> None:
    part = bytearray(b"abc" * 100)
    buffers = encode_packet(1, Done(), [part, b"", memoryview(b"xyz")])
    assert buffers[1] is part
    assert len(buffers) == 3
    reader: PacketReader[Any] = PacketReader(Done)
    reader.feed(join(buffers))
    assert read_all(reader)[0].payload == b"abc" * 100 + b"xyz"


# ------------------------------------------------------------------------------ what is refused


def refusal(data: bytes, **limits: int) -> str:
    """The message of the error that these bytes raise; it is raised again ever after."""
    reader: PacketReader[Any] = PacketReader(ChunkRequest, **limits)
    reader.feed(data)
    with pytest.raises(RemoteProtocolError) as first:
        read_all(reader)
    reader.feed(SAMPLE_BYTES)
    with pytest.raises(RemoteProtocolError) as second:
        reader.next_packet()
    assert str(first.value) == str(second.value)
    return str(first.value)


@pytest.mark.parametrize("data", [b"G", b"GET / HTTP/1.1\r\n\r\n", b"df\0", b"\x16\x03\x01" * 9])
def test_a_stranger_is_refused_at_its_first_bytes(data: bytes) -> None:
    assert "not a dfs packet" in refusal(data)


def test_newer_protocol() -> None:
    for data in (MAGIC + b"\x07", PREFIX.pack(MAGIC, 7, 5, 0) + bytes(5)):
        assert refusal(data) == (
            "the other side speaks protocol 7, this dfs speaks 1: upgrade this side"
        )


def test_older_protocol() -> None:
    assert "upgrade the other side" in refusal(PREFIX.pack(MAGIC, 0, 5, 0))


def test_too_large_is_refused_before_memory_is_taken() -> None:
    huge = (1 << 32) - 1
    assert "packet too large: its header" in refusal(PREFIX.pack(MAGIC, 1, huge, 0))
    assert "packet too large: its payload" in refusal(PREFIX.pack(MAGIC, 1, 10, huge))


def test_caps_are_inclusive() -> None:
    packet = join(encode_packet(1, GetChunkStatus(), b"x" * 50))
    header_bytes = len(packet) - 50 - PREFIX.size
    reader: PacketReader[Any] = PacketReader(
        ChunkRequest, header_bytes_max=header_bytes, payload_bytes_max=50
    )
    reader.feed(packet)
    assert len(read_all(reader)) == 1
    assert "header" in refusal(packet, header_bytes_max=header_bytes - 1)
    assert "payload" in refusal(packet, payload_bytes_max=49)


def test_encode_keeps_the_same_caps() -> None:
    with pytest.raises(LocalProtocolError, match=r"Done cannot be sent: its payload has 51 bytes"):
        encode_packet(1, Done(), [b"x" * 50, b"y"], payload_bytes_max=50)
    with pytest.raises(LocalProtocolError, match=r"its header has 13 bytes, 12 are allowed"):
        encode_packet(1, Done(), header_bytes_max=12)
    whole = encode_packet(1, Done(), bytes(PACKET_PAYLOAD_BYTES_MAX))
    assert sum(len(buffer) for buffer in whole) > PACKET_PAYLOAD_BYTES_MAX
    with pytest.raises(LocalProtocolError):
        encode_packet(1, Done(), bytes(PACKET_PAYLOAD_BYTES_MAX + 1))


class Strange(Message, frozen=True, tag=True, kw_only=True):
    """A message of a service that the reader does not speak."""


def raw_packet(header: bytes) -> bytes:
    return PREFIX.pack(MAGIC, 1, len(header), 0) + header


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode((1, Strange())),
        msgspec.msgpack.encode((-1, Done())),
        msgspec.msgpack.encode((1 << 63, GetChunkStatus())),
        msgspec.msgpack.encode((1, {"type": "GetBlock"})),
        msgspec.msgpack.encode((1, GetChunkStatus())) + b"\x00",
        msgspec.msgpack.encode((1, GetChunkStatus(), 2)),
        b"\x92\x01\x81\xa4type\xa2\xff\xfe",  # a tag that is not UTF-8
        b"\x92\x01" + b"\x91" * 100_000 + b"\x01",  # nested beyond any depth
        b"\x92\x01\xdd\xff\xff\xff\xff",  # an array of four billion
    ],
)
def test_header_that_makes_no_sense(header: bytes) -> None:
    text = refusal(raw_packet(header))
    assert "makes no sense" in text
    assert len(text) < 300
    assert "\n" not in text


def test_a_peers_text_stays_on_one_line() -> None:
    """What a peer puts into a tag is told, but can forge no log line."""
    header = msgspec.msgpack.encode((1, {"type": "A\nWARNING forged\n" + "x" * 5000}))
    text = refusal(raw_packet(header))
    assert text.isprintable()
    assert len(text) < 300


@given(st.binary(max_size=200), st.booleans())
def test_garbage_never_raises_anything_else(garbage: bytes, has_prefix: bool) -> None:
    """Random bytes, bare or behind a good prefix, are refused or wait for more."""
    data = raw_packet(garbage) if has_prefix else garbage
    reader: PacketReader[Any] = PacketReader(ChunkRequest, buffer_bytes=64)
    reader.feed(data)
    try:
        packets = read_all(reader)
    except RemoteProtocolError:
        return
    assert all(isinstance(packet, Packet) for packet in packets)


@given(st.integers(0, len(SAMPLE_BYTES) - 1), st.integers(1, 255))
def test_a_flipped_byte_never_raises_anything_else(index: int, flip: int) -> None:
    damaged = bytearray(SAMPLE_BYTES)
    damaged[index] ^= flip
    reader: PacketReader[Any] = PacketReader(ChunkRequest)
    reader.feed(damaged)
    try:
        packets = read_all(reader)
    except RemoteProtocolError:
        return
    assert len(packets) <= len(SAMPLES)


def test_memory_is_bounded_by_the_announced_sizes() -> None:
    """A reader that was promised the largest packet holds that much and no more."""
    reader: PacketReader[Any] = PacketReader(ChunkRequest)
    reader.feed(PREFIX.pack(MAGIC, 1, PACKET_HEADER_BYTES_MAX, PACKET_PAYLOAD_BYTES_MAX))
    assert reader.next_packet() is None
    space = reader.space()
    assert len(space) == PACKET_HEADER_BYTES_MAX + PACKET_PAYLOAD_BYTES_MAX
    assert len(space) < 17 * MIB


def test_prefix_is_big_endian() -> None:
    assert PREFIX.pack(MAGIC, 1, 2, 3) == b"dfs\x01" + struct.pack(">II", 2, 3)
