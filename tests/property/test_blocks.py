"""Any bytes survive being a block, and whatever is damaged is never taken for the block (I2)."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from dfs.core.blocks import block_id_of, decode_frames, encode_block, frame_span, hash_frames
from dfs.core.messages import BlockHeader
from dfs.errors import CorruptBlock
from dfs.limits import FRAME_BYTES

# Pieces that compress and pieces that do not, of any length, in any order.
pieces = st.one_of(
    st.builds(
        lambda seed, size: seed * size, st.binary(min_size=1, max_size=5), st.integers(1, 40_000)
    ),
    st.builds(
        lambda random, size: random.randbytes(size),
        st.randoms(use_true_random=False),
        st.integers(1, 80_000),
    ),
)
plains = st.lists(pieces, min_size=1, max_size=6).map(b"".join)


@given(plain=plains, level=st.sampled_from([0, 1, 3]), data=st.data())
def test_a_block_is_its_bytes_whole_and_in_parts(
    plain: bytes, level: int, data: st.DataObject
) -> None:
    header, buffers = encode_block(plain, level=level)
    stored = b"".join(buffers)
    assert [frame.stored_bytes for frame in header.frames] == [len(buffer) for buffer in buffers]
    assert header.block_id == block_id_of(hash_frames(plain))
    assert decode_frames(header, stored) == plain
    first = data.draw(st.integers(0, len(header.frames) - 1))
    end = data.draw(st.integers(first + 1, len(header.frames)))
    offset, length = frame_span(header, first, end)
    part = decode_frames(header, memoryview(stored)[offset : offset + length], first, end)
    assert part == plain[first * FRAME_BYTES : end * FRAME_BYTES]


@given(plain=plains, data=st.data())
def test_damaged_bytes_are_refused_or_decode_to_the_same(plain: bytes, data: st.DataObject) -> None:
    header, buffers = encode_block(plain)
    stored = bytearray(b"".join(buffers))
    start = data.draw(st.integers(0, len(stored) - 1))
    damage = data.draw(st.binary(min_size=1, max_size=20))[: len(stored) - start]
    stored[start : start + len(damage)] = damage
    try:
        decoded = decode_frames(header, stored)
    except CorruptBlock:
        return
    assert decoded == plain


encoder = msgspec.msgpack.Encoder()
decoder = msgspec.msgpack.Decoder(BlockHeader)


@given(plain=plains, data=st.data())
def test_a_damaged_header_is_refused_or_names_another_block(
    plain: bytes, data: st.DataObject
) -> None:
    """The reader compares the id; everything else the header says must follow from it."""
    header, buffers = encode_block(plain)
    packed = bytearray(encoder.encode(header))
    position = data.draw(st.integers(0, len(packed) - 1))
    packed[position] ^= data.draw(st.integers(1, 255))
    try:
        damaged = decoder.decode(packed)
        decoded = decode_frames(damaged, b"".join(buffers))
    except (msgspec.DecodeError, CorruptBlock):
        return
    assert decoded == plain
    assert damaged.block_id == header.block_id


@given(first=plains, second=plains)
def test_other_bytes_have_another_name(first: bytes, second: bytes) -> None:
    names = [block_id_of(hash_frames(plain)) for plain in (first, second)]
    assert (names[0] == names[1]) == (first == second)
