"""Goal: the map never shows anything but the file's extents. Method: a model, byte by byte."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dfs.client.extent_map import EXTENTS_KEPT_MAX, ExtentMap
from dfs.core.namespace.ops import Piece
from dfs.core.namespace.pieces import replace_ranges
from dfs.core.namespace.records import Extent

LENGTH = 64
BLOCK = 100


def block_id(number: int) -> bytes:
    return number.to_bytes(32, "big")


def paint(extents: list[Extent]) -> list[tuple[bytes, int] | None]:
    """Per byte of the file: which byte of which block, None in a hole."""
    picture: list[tuple[bytes, int] | None] = [None] * LENGTH
    for extent in extents:
        for index in range(extent.length):
            assert picture[extent.offset + index] is None
            picture[extent.offset + index] = (extent.block_id, extent.block_offset + index)
    return picture


@st.composite
def pieces(draw: st.DrawFn) -> Piece:
    offset = draw(st.integers(0, LENGTH - 1))
    length = draw(st.integers(1, LENGTH - offset))
    number = draw(st.integers(0, 5))
    if number == 0:
        return Piece(offset, length)
    return Piece(offset, length, block_id(number), draw(st.integers(0, 30)), BLOCK)


ranges = st.tuples(st.integers(0, LENGTH), st.integers(0, LENGTH)).map(sorted)


@given(
    st.lists(st.one_of(st.tuples(st.just("commit"), pieces()), st.tuples(st.just("learn"), ranges)))
)
def test_what_is_known_is_what_the_server_has(script: list) -> None:  # type: ignore[type-arg]
    known, server, version = ExtentMap(1), list[Extent](), 1
    for step, what in script:
        if step == "commit":
            touched = [e for e in server if e.offset <= what.offset + what.length]
            rest = [e for e in server if e.offset > what.offset + what.length]
            server = [*replace_ranges(touched, [what]), *rest]
            version += 1
            known.commit([what], version)
        else:
            low, high = what
            known.learn(low, high, [e for e in server if e.end > low and e.offset < high])
        truth = paint(server)
        unknown = known.unknown(0, LENGTH)
        edges = [0, *(edge for gap in unknown for edge in gap), LENGTH]
        for low, high in zip(edges[::2], edges[1::2], strict=True):
            shown = paint(known.touching(low, high))
            assert shown[low:high] == truth[low:high]


def test_a_strangers_change_empties_the_map() -> None:
    known = ExtentMap(4)
    known.learn(0, 100, [Extent(0, 10, block_id(1))])
    known.move_to(4)
    assert known.unknown(0, 100) == []
    known.move_to(5)
    assert known.unknown(0, 100) == [(0, 100)]
    assert len(known) == 0


def test_a_commit_after_a_strangers_change_is_not_laid_over_old_extents() -> None:
    known = ExtentMap(4)
    known.learn(0, 100, [])
    known.commit([Piece(0, 5, block_id(1), 0, BLOCK)], 6)
    assert known.data_version == 6
    assert known.unknown(0, 100) == [(0, 100)]


def test_too_much_is_dropped_as_a_whole() -> None:
    known = ExtentMap(0)
    many = [Extent(2 * n, 1, block_id(1)) for n in range(EXTENTS_KEPT_MAX + 1)]
    known.learn(0, 2 * len(many), many)
    known.trim()
    assert len(known) == 0
    assert known.unknown(0, 10) == [(0, 10)]


def test_extents_that_begin_in_a_range_are_whole() -> None:
    known = ExtentMap(0)
    extents = [Extent(0, 10, block_id(1)), Extent(10, 10, block_id(2)), Extent(30, 5, block_id(3))]
    known.learn(0, 100, extents)
    assert known.starting_in(0, 100) == extents
    assert known.starting_in(0, 15) == extents[:2]
    assert known.starting_in(5, 30) == extents[1:2]
    assert known.starting_in(31, 100) == []


def test_after_a_reset_an_older_version_counts() -> None:
    known = ExtentMap(4)
    known.learn(0, 100, [Extent(0, 10, block_id(1))])
    known.reset()
    assert known.unknown(0, 100) == [(0, 100)]
    known.move_to(3)
    assert known.data_version == 3
