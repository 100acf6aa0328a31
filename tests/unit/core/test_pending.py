"""Goal: pending bytes become the right pieces, in groups that one commit can carry."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dfs.core.pending import RUN_OVERHEAD_BYTES, Part, PendingBlock, commit_group
from dfs.limits import PIECES_PER_COMMIT_MAX

BLOCK_ID = b"i" * 32


def block_at(*offsets: int, length: int = 10) -> PendingBlock:
    parts = [Part(offset, index * length, length) for index, offset in enumerate(offsets)]
    return PendingBlock(bytes(length * len(offsets)), parts, is_inline=False)


def test_parts_become_pieces_by_offset() -> None:
    block = block_at(500, 100)
    first, second = block.pieces(BLOCK_ID)
    assert (first.offset, first.block_offset, first.length) == (100, 10, 10)
    assert (second.offset, second.block_offset, second.block_length) == (500, 0, 20)
    assert block.end == 510
    assert block.byte_count == 20 + 2 * RUN_OVERHEAD_BYTES


def test_a_cut_block_still_names_its_whole_length() -> None:
    block = block_at(100, 500)
    block.cut(505)
    assert [(p.offset, p.length, p.block_length) for p in block.pieces(BLOCK_ID)] == [
        (100, 10, 20),
        (500, 5, 20),
    ]
    block.cut(50)
    assert block.pieces(BLOCK_ID) == []
    assert block.end == 0


def test_a_group_ends_before_an_overlap() -> None:
    assert commit_group([block_at(0), block_at(10), block_at(5), block_at(30)]) == 2
    assert commit_group([block_at(0), block_at(0)]) == 1
    assert commit_group([]) == 0


def test_a_group_holds_at_most_one_commit_of_pieces() -> None:
    blocks = [block_at(number * 10) for number in range(PIECES_PER_COMMIT_MAX + 1)]
    assert commit_group(blocks) == PIECES_PER_COMMIT_MAX


@given(st.lists(st.integers(0, 400), max_size=30))
def test_groups_are_disjoint_and_as_long_as_possible(offsets: list[int]) -> None:
    blocks = [block_at(offset) for offset in offsets]
    count = commit_group(blocks)
    taken = offsets[:count]
    assert all(abs(a - b) >= 10 for i, a in enumerate(taken) for b in taken[i + 1 :])
    if count < len(offsets):
        assert any(abs(offsets[count] - other) < 10 for other in taken)
