"""Goal: pieces laid over extents give the bytes that writing them gives. Method: random pieces over
random files, read back beside a plain bytearray; and every shape of piece that makes no sense.
"""

from __future__ import annotations

import errno
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfs.core.namespace import pieces
from dfs.core.namespace.ops import Piece
from dfs.core.namespace.records import Extent
from dfs.errors import FsError
from dfs.limits import BLOCK_BYTES_MAX, FILE_BYTES_MAX, INLINE_BYTES_MAX, PIECES_PER_COMMIT_MAX
from dfs.types import BlockId

LENGTH = 64
BLOCKS = {BlockId(bytes([n]) * 32): bytes(range(n * 80, n * 80 + 64)) for n in (1, 2)}
ONE, TWO = BLOCKS


@st.composite
def some_pieces(draw: st.DrawFn) -> tuple[Piece, ...]:
    """Sorted and apart, of every kind, within LENGTH."""
    ends = sorted(draw(st.sets(st.integers(0, LENGTH), min_size=2, max_size=8)))
    made = []
    for start, end in pairwise(ends):
        kind = draw(st.sampled_from(("none", "hole", "inline", ONE, TWO)))
        length = end - start
        if kind == "inline":
            made.append(Piece(start, length, inline=bytes([draw(st.integers(1, 9))]) * length))
        elif isinstance(kind, bytes):
            # Often the block's own place, so that neighbours can be joined.
            at = draw(st.sampled_from((start, 0, 64 - length)))
            made.append(Piece(start, length, BlockId(kind), min(at, 64 - length), 64))
        elif kind == "hole":
            made.append(Piece(start, length))
    return tuple(made) or (Piece(0, 1),)


def _bytes_of(extents: list[Extent]) -> bytearray:
    content = bytearray(LENGTH)
    for extent in extents:
        source = BLOCKS.get(extent.block_id, extent.inline)
        start = extent.block_offset
        content[extent.offset : extent.end] = source[start : start + extent.length]
    return content


def _written(content: bytearray, laid: tuple[Piece, ...]) -> bytearray:
    for piece in laid:
        source = piece.inline or bytes(piece.length)
        if piece.block_id:
            source = BLOCKS[piece.block_id][piece.block_offset :][: piece.length]
        content[piece.offset : piece.offset + piece.length] = source
    return content


@given(st.lists(some_pieces(), min_size=1, max_size=6))
def test_extents_read_as_what_was_written(writes: list[tuple[Piece, ...]]) -> None:
    extents: list[Extent] = []
    content = bytearray(LENGTH)
    for laid in writes:
        pieces.check(laid)
        extents = pieces.replace_ranges(extents, laid)
        content = _written(content, laid)
        assert _bytes_of(extents) == content
        for left, right in pairwise(extents):
            assert left.end <= right.offset
            # Two inline neighbours would have become one.
            assert not (left.is_inline and right.is_inline and left.end == right.offset)


@given(some_pieces(), st.integers(0, LENGTH))
def test_cutting_keeps_what_is_below(laid: tuple[Piece, ...], size: int) -> None:
    extents = pieces.replace_ranges([], laid)
    kept = pieces.cut_at(extents, size)
    assert all(extent.end <= size for extent in kept)
    assert _bytes_of(kept)[:size] == _bytes_of(extents)[:size]
    assert _bytes_of(kept)[size:] == bytes(LENGTH - size)


@given(some_pieces(), st.integers(1, LENGTH))
def test_pieces_can_be_cut_too(laid: tuple[Piece, ...], above: int) -> None:
    cut = laid[0].offset + above
    first = pieces.below(laid, cut)
    pieces.check(first)
    assert all(piece.offset + piece.length <= cut for piece in first)
    expected = pieces.cut_at(pieces.replace_ranges([], laid), cut)
    assert _bytes_of(pieces.replace_ranges([], first)) == _bytes_of(expected)


def test_a_part_of_an_extent_keeps_its_place() -> None:
    assert pieces.part(Extent(10, 5, ONE, 3), 12, 14) == Extent(12, 2, ONE, 5)
    assert pieces.part(Extent(10, 3, inline=b"abc"), 11, 13) == Extent(11, 2, inline=b"bc")
    with pytest.raises(AssertionError):
        pieces.part(Extent(10, 5, ONE, 3), 9, 14)
    with pytest.raises(AssertionError):
        pieces.part(Extent(10, 5, ONE, 3), 12, 12)


def test_neighbours_of_one_block_become_one_again() -> None:
    halves = (Piece(0, 4, ONE, 2, 64), Piece(4, 4, ONE, 6, 64))
    assert pieces.replace_ranges([], halves) == [Extent(0, 8, ONE, 2)]
    apart = (Piece(0, 4, ONE, 2, 64), Piece(4, 4, ONE, 7, 64))
    assert len(pieces.replace_ranges([], apart)) == 2


def test_tiny_appends_stay_one_record() -> None:
    extents: list[Extent] = []
    for offset in range(100):
        extents = pieces.replace_ranges(extents, (Piece(offset, 1, inline=b"x"),))
    assert extents == [Extent(0, 100, inline=b"x" * 100)]


MANY = tuple(Piece(2 * n, 1) for n in range(PIECES_PER_COMMIT_MAX + 1))


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ((), errno.EINVAL),
        (MANY, errno.EINVAL),
        ((Piece(0, 0),), errno.EINVAL),
        ((Piece(-1, 2),), errno.EINVAL),
        ((Piece(5, 5), Piece(9, 1)), errno.EINVAL),
        ((Piece(5, 5), Piece(0, 1)), errno.EINVAL),
        ((Piece(FILE_BYTES_MAX, 1),), errno.EFBIG),
        ((Piece(0, 1, BlockId(b"short"), 0, 1),), errno.EINVAL),
        ((Piece(0, 1, ONE, 0, 1, b"a"),), errno.EINVAL),
        ((Piece(0, 1, ONE, 0, 0),), errno.EINVAL),
        ((Piece(0, 1, ONE, 0, BLOCK_BYTES_MAX + 1),), errno.EINVAL),
        ((Piece(0, 2, ONE, 9, 10),), errno.EINVAL),
        ((Piece(0, 2, ONE, -1, 10),), errno.EINVAL),
        ((Piece(0, 1, ONE, 0, 1), Piece(1, 1, ONE, 0, 2)), errno.EINVAL),
        ((Piece(0, 1, block_offset=1),), errno.EINVAL),
        ((Piece(0, 1, block_length=1),), errno.EINVAL),
        ((Piece(0, 2, inline=b"a"),), errno.EINVAL),
        ((Piece(INLINE_BYTES_MAX, 1, inline=b"a"),), errno.EINVAL),
    ],
    ids=lambda value: str(value)[:60],
)
def test_pieces_that_make_no_sense(wrong: tuple[Any, ...], expected: int) -> None:
    with pytest.raises(FsError) as caught:
        pieces.check(wrong)
    assert caught.value.errno == expected


def test_the_ends_of_every_range_are_fine() -> None:
    pieces.check((Piece(0, FILE_BYTES_MAX),))
    pieces.check((Piece(INLINE_BYTES_MAX - 1, 1, inline=b"a"),))
    pieces.check((Piece(0, 1, ONE, BLOCK_BYTES_MAX - 1, BLOCK_BYTES_MAX),))
    pieces.check(MANY[:-1])
