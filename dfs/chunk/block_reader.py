"""Reads blocks back out of segments and verifies them; turns a block to be put into a verified one.

Blocking; any number of threads at once. Nothing leaves here that was not compared with its name
(I2).
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import msgspec

from dfs.chunk.segment_log import segment_name
from dfs.core.blocks import decode_frames, frame_span
from dfs.core.messages import BlockHeader
from dfs.core.segments import (
    SegmentRecord,
    encode_header,
    parse_record,
    payload_checksum,
    record_bytes,
    segment_key,
)
from dfs.errors import CorruptBlock, DfsError, FsError

if TYPE_CHECKING:
    from dfs.chunk.disk import Buffer, Disk
    from dfs.chunk.index import BlockLocation
    from dfs.types import BlockId, ServerId


class Prepared(msgspec.Struct, frozen=True):
    """A block that matches its name, ready for a segment."""

    encoded_header: bytes
    checksum: bytes


class Misplaced(CorruptBlock):
    """The index points to where the block is not: it is the index that is wrong."""


def prepare_put(header: BlockHeader, stored: Buffer) -> Prepared:
    """Verify a whole block as it came. Raises CorruptBlock (I2)."""
    decode_frames(header, stored)
    return Prepared(encode_header(header), payload_checksum(stored))


class BlockReader:
    """Reads records of one server's segments."""

    def __init__(self, disk: Disk, server_id: ServerId) -> None:
        self._disk = disk
        self._server_id = server_id

    def read(
        self, block_id: BlockId, location: BlockLocation, first_frame: int, end_frame: int | None
    ) -> tuple[BlockHeader, memoryview]:
        """The block's header and the stored bytes of frames [first_frame, end_frame), verified.

        Raises CorruptBlock, Misplaced (also when the segment is gone), FsError(EINVAL), DfsError
        when the disk fails in another way.
        """
        if first_frame == 0 and end_frame is None:
            return self.read_whole(block_id, location)
        head_bytes = location.record_bytes - location.payload_bytes
        record = self._parse(block_id, location, self._bytes(location, location.offset, head_bytes))
        header = record.header
        assert isinstance(header, BlockHeader)
        end = len(header.frames) if end_frame is None else end_frame
        if not 0 <= first_frame < end <= len(header.frames):
            raise FsError(errno.EINVAL, f"no frames [{first_frame}, {end}) in this block")
        start, length = frame_span(header, first_frame, end)
        stored = memoryview(self._bytes(location, record.payload_offset + start, length))
        decode_frames(header, stored, first_frame, end)
        return header, stored

    def read_whole(
        self, block_id: BlockId, location: BlockLocation
    ) -> tuple[BlockHeader, memoryview]:
        """The whole block, compared with the checksum that was made when it was verified."""
        data = memoryview(self._bytes(location, location.offset, location.record_bytes))
        record = self._parse(block_id, location, data)
        payload = data[record.payload_offset - location.offset :]
        if payload_checksum(payload) != record.payload_checksum:
            raise CorruptBlock("its bytes do not match their checksum")
        assert isinstance(record.header, BlockHeader)
        assert len(payload) == location.payload_bytes
        return record.header, payload

    def verify(self, block_id: BlockId, location: BlockLocation) -> None:
        """Compare every byte with the block's name. Raises as `read` does."""
        header, stored = self.read_whole(block_id, location)
        decode_frames(header, stored)

    def _parse(self, block_id: BlockId, location: BlockLocation, data: Buffer) -> SegmentRecord:
        key = segment_key(self._server_id, location.segment)
        record = parse_record(key, location.offset, data)
        if not isinstance(record, SegmentRecord):
            raise CorruptBlock("its record's header is damaged")
        is_same_shape = (
            record.header_bytes == location.header_bytes
            and record.payload_bytes == location.payload_bytes
        )
        if record.block_id != block_id or not is_same_shape:
            raise Misplaced("another record lies in its place")
        if not isinstance(record.header, BlockHeader):
            raise Misplaced("a tombstone lies in its place")
        assert len(data) <= record_bytes(record.header_bytes, record.payload_bytes)
        return record

    def _bytes(self, location: BlockLocation, offset: int, length: int) -> bytes:
        name = segment_name(location.segment)
        try:
            data = self._disk.read_at(name, offset, length)
        except FileNotFoundError as error:
            raise Misplaced("its segment is gone") from error
        except OSError as error:
            if error.errno == errno.EIO:
                raise CorruptBlock("the disk cannot read it: EIO") from error
            raise DfsError(f"{name} cannot be read: {error.strerror or error}") from error
        if len(data) < length:
            raise CorruptBlock("its segment ends before it")
        return data
