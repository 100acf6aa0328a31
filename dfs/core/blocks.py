"""Plain bytes ↔ a block: frames, their hashes, the block's name, and how frames are stored.

A block is cut into frames of FRAME_BYTES, the last one shorter. Each frame is hashed plain and
stored by itself, compressed or raw, so one frame can be fetched and verified alone. The block id is
the BLAKE3 hash of the frame hashes, so it says nothing of how the frames are stored. Must not know
where blocks are kept or sent.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import zstandard
from blake3 import blake3

from dfs.core.messages import BlockHeader, FrameHeader
from dfs.errors import CorruptBlock
from dfs.limits import BLOCK_BYTES_MAX, BLOCK_ID_BYTES, FRAME_BYTES
from dfs.types import BlockId

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Buffer = bytes | bytearray | memoryview

COMPRESSION_LEVEL_DEFAULT = 1
FRAME_SAVING_SHARE = 16
"""A frame is stored compressed only if that saves at least 1/16 of it."""
PROBE_STRIDE = 5
"""Every fifth frame and the last one are tried first; those between are tried if a probe beside
them paid. Data that does not compress thus costs a quarter of the compressor, and a compressible
run of this many frames is always found."""

# Making a (de)compressor costs as much as compressing two incompressible frames, and one may not be
# used by two threads at once: idle ones rest here. list.pop and list.append are atomic.
_idle_compressors: dict[int, list[zstandard.ZstdCompressor]] = {}
_idle_decompressors: list[zstandard.ZstdDecompressor] = []


def frame_count(length: int) -> int:
    """Frames of a block of `length` plain bytes, at least 1."""
    assert 0 < length <= BLOCK_BYTES_MAX
    return -(-length // FRAME_BYTES)


def frame_length(header: BlockHeader, frame_index: int) -> int:
    """Plain bytes of one frame, 1 … FRAME_BYTES."""
    assert 0 <= frame_index < len(header.frames)
    return min(FRAME_BYTES, header.length - frame_index * FRAME_BYTES)


def frames_touching(start: int, end: int) -> tuple[int, int]:
    """Frames [first, end) that hold the non-empty plain byte range [start, end) of a block."""
    assert 0 <= start < end <= BLOCK_BYTES_MAX
    return start // FRAME_BYTES, frame_count(end)


def frame_span(header: BlockHeader, first_frame: int, end_frame: int) -> tuple[int, int]:
    """(offset, length) of the frames [first_frame, end_frame) within the block's stored bytes."""
    assert 0 <= first_frame <= end_frame <= len(header.frames)
    offset = sum(frame.stored_bytes for frame in header.frames[:first_frame])
    length = sum(frame.stored_bytes for frame in header.frames[first_frame:end_frame])
    return offset, length


def stored_length(header: BlockHeader) -> int:
    """Bytes that all frames take as stored."""
    return sum(frame.stored_bytes for frame in header.frames)


def block_id_of(frame_hashes: Iterable[bytes]) -> BlockId:
    """The name of the block with these frame hashes, in order."""
    joined = b"".join(frame_hashes)
    assert joined
    assert len(joined) % BLOCK_ID_BYTES == 0
    return BlockId(blake3(joined).digest())


def hash_frames(plain: Buffer) -> list[bytes]:
    """Hashes of the frames of a block, in order. With block_id_of: its name, without encoding."""
    view = memoryview(plain)
    assert 0 < len(view) <= BLOCK_BYTES_MAX
    # blake3 drops the GIL for inputs of this size.
    return [
        blake3(view[start : start + FRAME_BYTES]).digest()
        for start in range(0, len(view), FRAME_BYTES)
    ]


# ---------------------------------------------------------------- encode


def encode_block(
    plain: Buffer, *, level: int = COMPRESSION_LEVEL_DEFAULT
) -> tuple[BlockHeader, list[Buffer]]:
    """The block that holds `plain` (1 … BLOCK_BYTES_MAX bytes): its header, and each frame's stored
    bytes.

    `level` is zstd's, 0 stores everything raw. Raw frames are views of `plain`, not copies: keep it
    unchanged while they are used. Any thread may call this, many at once.
    """
    view = memoryview(plain)
    frame_hashes = hash_frames(view)
    plain_frames = [view[start : start + FRAME_BYTES] for start in range(0, len(view), FRAME_BYTES)]
    assert len(plain_frames) == len(frame_hashes) == frame_count(len(view))
    buffers: list[Buffer] = _compress_frames(plain_frames, level) if level else list(plain_frames)
    frames = tuple(
        FrameHeader(frame_hash, len(buffer), is_compressed=buffer is not plain_frame)
        for frame_hash, buffer, plain_frame in zip(frame_hashes, buffers, plain_frames, strict=True)
    )
    header = BlockHeader(block_id_of(frame_hashes), len(view), frames)
    assert len(header.frames) == frame_count(header.length)
    assert 0 < stored_length(header) <= header.length
    return header, buffers


def _compress_frames(frames: Sequence[memoryview], level: int) -> list[Buffer]:
    """Each frame compressed, or the very same object where compressing was not tried or does not
    pay."""
    idle = _idle_compressors.setdefault(level, [])
    try:
        compressor = idle.pop()
    except IndexError:
        compressor = zstandard.ZstdCompressor(level=level)
    stored: list[Buffer] = list(frames)
    last = len(frames) - 1
    probes = sorted({*range(0, len(frames), PROBE_STRIDE), last})
    for probe in probes:
        stored[probe] = _smaller(compressor, frames[probe])
    for before, after in pairwise(probes):
        if stored[before] is not frames[before] or stored[after] is not frames[after]:
            for index in range(before + 1, after):
                stored[index] = _smaller(compressor, frames[index])
    idle.append(compressor)
    assert len(stored) == len(frames)
    return stored


def _smaller(compressor: zstandard.ZstdCompressor, frame: memoryview) -> Buffer:
    """The frame compressed, or itself if that saves too little."""
    compressed = compressor.compress(frame)
    saved = len(frame) - len(compressed)
    return compressed if saved * FRAME_SAVING_SHARE >= len(frame) else frame


# ---------------------------------------------------------------- verify and decode


def verify_header(header: BlockHeader) -> None:
    """Returns if the header is that of the block it names: sizes fit, and the frame hashes make up
    the id.

    That it is the block that was asked for, the caller compares. Raises CorruptBlock (I2).
    """
    if not 0 < header.length <= BLOCK_BYTES_MAX:
        raise _corrupt(header, f"a length of {header.length} bytes")
    if len(header.frames) != frame_count(header.length):
        raise _corrupt(header, f"{len(header.frames)} frames for {header.length} bytes")
    for index, frame in enumerate(header.frames):
        plain_bytes = frame_length(header, index)
        stored_bytes_max = plain_bytes - 1 if frame.is_compressed else plain_bytes
        stored_bytes_min = 1 if frame.is_compressed else plain_bytes
        if not stored_bytes_min <= frame.stored_bytes <= stored_bytes_max:
            raise _corrupt(header, f"{frame.stored_bytes} stored bytes in frame {index}")
        if len(frame.frame_hash) != BLOCK_ID_BYTES:
            raise _corrupt(header, f"a hash of {len(frame.frame_hash)} bytes in frame {index}")
    if block_id_of(frame.frame_hash for frame in header.frames) != header.block_id:
        raise _corrupt(header, "frame hashes that make up another id")


def decode_frames(
    header: BlockHeader, stored: Buffer, first_frame: int = 0, end_frame: int | None = None
) -> bytes:
    """The plain bytes of the frames [first_frame, end_frame), None meaning to the last.

    `stored` is exactly the stored bytes of these frames. Nothing is returned that was not verified
    up to the block's id (I2). Raises CorruptBlock. Any thread may call this, many at once.
    """
    verify_header(header)
    end_frame = len(header.frames) if end_frame is None else end_frame
    assert 0 <= first_frame < end_frame <= len(header.frames)
    view = memoryview(stored)
    _, stored_bytes = frame_span(header, first_frame, end_frame)
    if len(view) != stored_bytes:
        raise _corrupt(header, f"{len(view)} stored bytes instead of {stored_bytes}")
    plain_frames: list[Buffer] = []
    position = 0
    for index in range(first_frame, end_frame):
        frame_bytes = header.frames[index].stored_bytes
        plain_frames.append(_decode_frame(header, index, view[position : position + frame_bytes]))
        position += frame_bytes
    assert position == stored_bytes
    plain = b"".join(plain_frames)
    assert len(plain) == sum(frame_length(header, i) for i in range(first_frame, end_frame))
    return plain


def _decode_frame(header: BlockHeader, frame_index: int, stored: memoryview) -> Buffer:
    frame = header.frames[frame_index]
    assert len(stored) == frame.stored_bytes
    plain: Buffer = stored
    if frame.is_compressed:
        plain = _decompress(header, frame_index, stored)
    if len(plain) != frame_length(header, frame_index):
        raise _corrupt(header, f"{len(plain)} plain bytes in frame {frame_index}")
    if blake3(plain).digest() != frame.frame_hash:
        raise _corrupt(header, f"wrong bytes in frame {frame_index}")
    return plain


def _decompress(header: BlockHeader, frame_index: int, stored: memoryview) -> bytes:
    """At most the frame's length comes out, whatever the compressed bytes claim."""
    expected_bytes = frame_length(header, frame_index)
    try:
        decompressor = _idle_decompressors.pop()
    except IndexError:
        decompressor = zstandard.ZstdDecompressor()
    try:
        # zstandard allocates what the data's own header claims, so that is looked at first.
        if zstandard.frame_content_size(stored) != expected_bytes:
            raise _corrupt(header, f"a wrong size in frame {frame_index}")
        return decompressor.decompress(
            stored, max_output_size=expected_bytes, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise _corrupt(header, f"undecodable bytes in frame {frame_index} ({error})") from None
    finally:
        _idle_decompressors.append(decompressor)


def _corrupt(header: BlockHeader, what: str) -> CorruptBlock:
    return CorruptBlock(f"block {header.block_id.hex()[:16]} has {what}")
