"""Goal: dirty bytes are never lost, mixed up or invented. Method: random steps and a bytearray."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfs.core.dirty import DirtyFile, gaps_between
from dfs.core.pending import RUN_OVERHEAD_BYTES, commit_group
from dfs.limits import INLINE_BYTES_MAX, KIB, PIECES_PER_COMMIT_MAX

if TYPE_CHECKING:
    from dfs.core.namespace.ops import Piece
    from dfs.core.pending import PendingBlock
    from dfs.types import BlockId

BLOCK = 64 * KIB
LENGTH_MAX = 4 * BLOCK


class Model:
    """What the file must read as: committed bytes, and which bytes are dirty."""

    def __init__(self) -> None:
        self.content = bytearray(LENGTH_MAX)
        self.committed = bytearray(LENGTH_MAX)
        self.is_dirty = bytearray(LENGTH_MAX)


def read_all(dirty: DirtyFile, model: Model) -> bytes:
    """The newest content: committed bytes with the dirty ones laid over."""
    target = bytearray(LENGTH_MAX)
    for start, end in dirty.read_into(0, target):
        target[start:end] = model.committed[start:end]
    return bytes(target)


def commit_oldest(dirty: DirtyFile, model: Model, blocks: dict[BlockId, bytes]) -> None:
    """Commit the first group as a server would, from the pieces alone."""
    group = list(dirty.pending[: commit_group(dirty.pending)])
    pieces: list[Piece] = []
    for block in group:
        block_id = len(blocks).to_bytes(32, "big")
        blocks[block_id] = bytes(block.plain)
        pieces += block.pieces(None if block.is_inline else block_id)
    pieces.sort(key=lambda piece: piece.offset)
    for before, after in pairwise(pieces):
        assert before.offset + before.length <= after.offset
    for piece in pieces:
        stored = blocks.get(piece.block_id, piece.inline)
        assert not piece.block_id or piece.block_length == len(stored)
        plain = stored[piece.block_offset : piece.block_offset + piece.length]
        assert len(plain) == piece.length
        model.committed[piece.offset : piece.offset + piece.length] = plain
    for block in group:
        dirty.settle(block)


def make_write(offset: int, length: int, byte: int) -> tuple[str, int, bytes]:
    return "write", offset, bytes([byte]) * min(length, LENGTH_MAX - offset)


offsets = st.one_of(
    st.integers(0, LENGTH_MAX - 1),
    st.sampled_from([0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, INLINE_BYTES_MAX]),
)
lengths = st.one_of(st.integers(1, 300), st.sampled_from([BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK]))
steps = st.one_of(
    st.builds(make_write, offsets, lengths, st.integers(0, 255)),
    st.tuples(st.just("truncate"), offsets, st.just(b"")),
    st.tuples(st.just("take"), st.just(0), st.just(b"")),
    st.tuples(st.just("commit"), st.just(0), st.just(b"")),
)


def take_step(
    step: tuple[str, int, bytes], dirty: DirtyFile, model: Model, blocks: dict[BlockId, bytes]
) -> None:
    kind, offset, data = step
    if kind == "write":
        for index in dirty.write(offset, data):
            dirty.take_full(index)
        model.content[offset : offset + len(data)] = data
    elif kind == "truncate":
        dirty.truncate(offset)
        zeros = bytes(LENGTH_MAX - offset)
        model.content[offset:] = zeros
        model.committed[offset:] = zeros
    elif kind == "take":
        dirty.take_rest()
    elif dirty.pending:
        commit_oldest(dirty, model, blocks)


@settings(max_examples=200)
@given(st.lists(steps, max_size=25))
def test_reads_show_the_newest_bytes_and_commits_lose_none(
    script: list[tuple[str, int, bytes]],
) -> None:
    dirty, model, blocks = DirtyFile(BLOCK), Model(), dict[bytes, bytes]()
    for step in script:
        take_step(step, dirty, model, blocks)
        assert read_all(dirty, model) == model.content
    dirty.take_rest()
    while dirty.pending:
        commit_oldest(dirty, model, blocks)
    assert dirty.is_clean
    assert dirty.byte_count == 0
    assert dirty.end == 0
    assert model.committed == model.content


@given(st.lists(st.tuples(st.integers(0, 2 * BLOCK), st.integers(1, 5000)), max_size=20))
def test_only_written_bytes_are_dirty(writes: list[tuple[int, int]]) -> None:
    dirty, is_dirty = DirtyFile(BLOCK), bytearray(LENGTH_MAX)
    for offset, length in writes:
        dirty.write(offset, b"x" * length)
        is_dirty[offset : offset + length] = b"\1" * length
    clean = bytearray(b"\1" * LENGTH_MAX)
    for start, end in dirty.clean_ranges(0, LENGTH_MAX):
        clean[start:end] = bytes(end - start)
    assert clean == is_dirty
    assert dirty.end == is_dirty.rfind(b"\1") + 1
    exact = sum(part.length for block in dirty.take_rest() for part in block.parts)
    assert exact == sum(is_dirty)


def test_many_small_writes_make_one_block() -> None:
    dirty = DirtyFile(BLOCK)
    for offset in range(0, BLOCK - 512, 512):
        assert dirty.write(offset, b"a" * 512) == []
    assert dirty.write(BLOCK - 512, b"b" * 512) == [0]
    block = dirty.take_full(0)
    assert len(block.plain) == BLOCK
    assert dirty.pending == [block]
    assert dirty.live_bytes == 0


def test_a_small_file_is_inline() -> None:
    dirty = DirtyFile(BLOCK)
    dirty.write(0, b"hello")
    dirty.write(5, b" world")
    (block,) = dirty.take_rest()
    assert block.is_inline
    (piece,) = block.pieces(None)
    assert piece.inline == b"hello world"
    assert (piece.offset, piece.length, piece.block_id) == (0, 11, b"")


def test_one_byte_past_the_inline_limit_is_a_block() -> None:
    dirty = DirtyFile(BLOCK)
    dirty.write(0, bytes(INLINE_BYTES_MAX + 1))
    (block,) = dirty.take_rest()
    assert not block.is_inline


def test_holes_have_neither_block_nor_bytes() -> None:
    dirty = DirtyFile(BLOCK)
    dirty.write(BLOCK, bytes(BLOCK))
    (piece,) = dirty.take_full(1).pieces(None)
    assert (piece.offset, piece.length) == (BLOCK, BLOCK)
    assert piece.block_id == piece.inline == b""


def test_scattered_writes_share_blocks_of_at_most_one_commit() -> None:
    dirty = DirtyFile(BLOCK)
    for number in range(PIECES_PER_COMMIT_MAX + 1):
        dirty.write(INLINE_BYTES_MAX + number * 1000, b"xy")
    first, second = dirty.take_rest()
    assert len(first.parts) == PIECES_PER_COMMIT_MAX
    assert len(second.parts) == 1
    assert len(first.plain) == 2 * PIECES_PER_COMMIT_MAX
    assert commit_group(dirty.pending) == 1


def test_a_newer_write_over_a_pending_one_waits_for_its_own_commit() -> None:
    dirty = DirtyFile(BLOCK)
    dirty.write(0, b"old")
    dirty.take_rest()
    dirty.write(1, b"new")
    dirty.take_rest()
    assert len(dirty.pending) == 2
    assert commit_group(dirty.pending) == 1
    target = bytearray(4)
    assert dirty.read_into(0, target) == []
    assert target == b"onew"


def test_truncate_shortens_pending_blocks() -> None:
    dirty = DirtyFile(BLOCK)
    dirty.write(10_000, b"abcdef")
    (block,) = dirty.take_rest()
    dirty.truncate(10_002)
    (piece,) = block.pieces(b"i" * 32)
    assert (piece.offset, piece.length, piece.block_length) == (10_000, 2, 6)
    dirty.truncate(10_000)
    assert block.pieces(b"i" * 32) == []
    assert dirty.end == 0
    dirty.settle(block)
    assert dirty.is_clean


def test_tiny_writes_are_counted_with_their_overhead() -> None:
    dirty = DirtyFile(BLOCK)
    for number in range(100):
        dirty.write(number * 10, b"x")
    assert dirty.byte_count == 100 * (1 + RUN_OVERHEAD_BYTES)
    dirty.clear()
    assert dirty.byte_count == 0


def test_spans_leave_in_the_order_in_which_they_became_dirty() -> None:
    dirty = DirtyFile(BLOCK)
    for index in (3, 0, 2):
        dirty.write(index * BLOCK, bytes(BLOCK - 1))
    assert [block.parts[0].offset // BLOCK for block in dirty.take_rest()] == [3, 0, 2]


@pytest.mark.parametrize(
    ("covered", "gaps"),
    [
        ([], [(10, 20)]),
        ([(10, 20)], []),
        ([(0, 12), (18, 30)], [(12, 18)]),
        ([(14, 16), (12, 15)], [(10, 12), (16, 20)]),
        ([(25, 30)], [(10, 20)]),
    ],
)
def test_gaps(covered: list[tuple[int, int]], gaps: list[tuple[int, int]]) -> None:
    assert gaps_between(10, 20, covered) == gaps


def test_a_pending_block_keeps_its_bytes_while_newer_ones_arrive() -> None:
    dirty = DirtyFile(BLOCK)
    dirty.write(0, bytes(BLOCK))
    block: PendingBlock = dirty.take_full(0)
    dirty.write(0, b"new")
    assert bytes(block.plain) == bytes(BLOCK)


@pytest.mark.parametrize(
    ("offset", "length", "fits"),
    [
        (0, 1, True),
        (INLINE_BYTES_MAX - 1, 1, True),
        (0, INLINE_BYTES_MAX + 1, False),
        (INLINE_BYTES_MAX, 1, False),
    ],
)
def test_only_the_beginning_of_a_file_fits_into_records(
    offset: int, length: int, fits: bool
) -> None:
    dirty = DirtyFile(BLOCK)
    assert not dirty.fits_records, "there is nothing"
    dirty.write(offset, bytes(length))
    assert dirty.fits_records == fits


def test_what_is_on_its_way_already_does_not_fit_into_records() -> None:
    dirty = DirtyFile(BLOCK)
    dirty.write(0, b"a")
    [block] = dirty.take_rest()
    dirty.write(1, b"b")
    assert not dirty.fits_records
    dirty.settle(block)
    assert dirty.fits_records
