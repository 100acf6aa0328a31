"""Goal: nothing is read back that is not the block that was asked for (I2). Method: a hand-written
segment; every stored byte flipped."""

from __future__ import annotations

import errno

import pytest

from dfs.chunk.block_reader import BlockReader, Misplaced, prepare_put
from dfs.chunk.index import BlockLocation
from dfs.chunk.segment_log import segment_name
from dfs.core.blocks import decode_frames
from dfs.core.segments import (
    SEGMENT_HEADER_BYTES,
    RecordKind,
    Tombstone,
    encode_header,
    encode_record_start,
    payload_checksum,
    segment_key,
)
from dfs.errors import CorruptBlock, DfsError, FsError
from dfs.limits import FRAME_BYTES
from dfs.types import ServerId
from tests.unit.chunk.memory_disk import MemoryDisk
from tests.unit.chunk.rig import Block

SERVER = ServerId("0123456789abcdef")
NAME = segment_name(1)


def stored(block: Block) -> tuple[BlockReader, MemoryDisk, BlockLocation]:
    prepared = prepare_put(block.header, block.stored)
    start = encode_record_start(
        segment_key(SERVER, 1),
        SEGMENT_HEADER_BYTES,
        RecordKind.PUT,
        prepared.encoded_header,
        (len(block.stored), prepared.checksum),
    )
    disk = MemoryDisk()
    disk.make_directory("segments")
    disk.write_at(NAME, SEGMENT_HEADER_BYTES, [start, block.stored])
    header_bytes = len(prepared.encoded_header)
    location = BlockLocation(1, SEGMENT_HEADER_BYTES, header_bytes, len(block.stored))
    assert location.end == disk.size(NAME)
    return BlockReader(disk, SERVER), disk, location


def test_whole_blocks_and_frames() -> None:
    block = Block(1, size=3 * FRAME_BYTES + 5, level=1)
    reader, disk, location = stored(block)
    header, payload = reader.read(block.block_id, location, 0, None)
    assert (header, bytes(payload)) == (block.header, block.stored)
    reader.verify(block.block_id, location)
    disk.bytes_read = 0
    header, payload = reader.read(block.block_id, location, 3, 4)
    assert decode_frames(header, payload, 3, 4) == block.plain[3 * FRAME_BYTES :]
    assert disk.bytes_read == location.record_bytes - location.payload_bytes + len(payload)


def test_every_flipped_byte_is_noticed() -> None:
    block = Block(1, size=120)
    reader, disk, location = stored(block)
    for position in range(location.offset, location.end):
        disk.flip(NAME, position)
        for read in (
            lambda: reader.read(block.block_id, location, 0, None),
            lambda: reader.verify(block.block_id, location),
        ):
            with pytest.raises(CorruptBlock):
                read()
        if position >= location.end - location.payload_bytes:
            with pytest.raises(CorruptBlock):
                reader.read(block.block_id, location, 0, 1)
        disk.flip(NAME, position)
    reader.verify(block.block_id, location)


def test_damage_elsewhere_does_not_hinder_a_frame() -> None:
    block = Block(1, size=2 * FRAME_BYTES)
    reader, disk, location = stored(block)
    disk.flip(NAME, location.end - 1)
    assert bytes(reader.read(block.block_id, location, 0, 1)[1]) == block.stored[:FRAME_BYTES]
    with pytest.raises(CorruptBlock):
        reader.read(block.block_id, location, 1, 2)


def test_frames_that_do_not_exist() -> None:
    block = Block(1, size=FRAME_BYTES)
    reader, _, location = stored(block)
    for first, end in ((0, 2), (1, None), (0, 0), (-1, 1)):
        with pytest.raises(FsError) as caught:
            reader.read(block.block_id, location, first, end)
        assert caught.value.errno == errno.EINVAL


def test_an_index_that_points_elsewhere() -> None:
    block = Block(1)
    reader, disk, location = stored(block)
    with pytest.raises(Misplaced, match="another record"):
        reader.read(Block(2).block_id, location, 0, None)
    shape = BlockLocation(1, location.offset, location.header_bytes, location.payload_bytes - 1)
    with pytest.raises(Misplaced, match="another record"):
        reader.read(block.block_id, shape, 0, None)
    gone = BlockLocation(2, location.offset, location.header_bytes, location.payload_bytes)
    with pytest.raises(Misplaced, match="its segment is gone"):
        reader.read(block.block_id, gone, 0, None)
    tombstone = encode_header(Tombstone(block.block_id, 1, location.offset))
    start = encode_record_start(
        segment_key(SERVER, 1),
        location.end,
        RecordKind.DELETE,
        tombstone,
        (0, payload_checksum(b"")),
    )
    disk.write_at(NAME, location.end, [start])
    place = BlockLocation(1, location.end, len(tombstone), 0)
    with pytest.raises(Misplaced, match="a tombstone"):
        reader.read(block.block_id, place, 0, None)


def test_a_segment_that_ends_early() -> None:
    block = Block(1)
    reader, disk, location = stored(block)
    disk.truncate(NAME, location.end - 1)
    with pytest.raises(CorruptBlock, match="its segment ends before it"):
        reader.read(block.block_id, location, 0, None)


def test_failing_disks() -> None:
    block = Block(1)
    reader, disk, location = stored(block)
    disk.fail("read_at", errno.EIO)
    with pytest.raises(CorruptBlock, match="EIO"):
        reader.read(block.block_id, location, 0, None)
    disk.fail("read_at", errno.EMFILE)
    with pytest.raises(DfsError) as caught:
        reader.read(block.block_id, location, 0, None)
    assert not isinstance(caught.value, CorruptBlock)


def test_only_whole_and_true_blocks_are_prepared() -> None:
    block = Block(1, size=2 * FRAME_BYTES)
    assert prepare_put(block.header, block.stored).checksum == payload_checksum(block.stored)
    for wrong in (b"", block.stored[1:], block.stored + b"x", bytes(len(block.stored))):
        with pytest.raises(CorruptBlock):
            prepare_put(block.header, wrong)
