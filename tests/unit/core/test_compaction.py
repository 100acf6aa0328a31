"""Goal: the segment that is worth compacting is chosen, and none is when it is not worth it."""

from __future__ import annotations

from dfs.core.compaction import SegmentUsage, choose_compaction
from dfs.core.segments import SEGMENT_HEADER_BYTES

SIZE = 1000


def usage(number: int, live: int, tombstones: dict[int, int] | None = None) -> SegmentUsage:
    return SegmentUsage(
        number=number,
        end_bytes=SEGMENT_HEADER_BYTES + SIZE,
        live_bytes=live,
        tombstone_bytes=tombstones or {},
    )


def choose(
    *usages: SegmentUsage, free_bytes: int = 10 * SIZE, is_space_short: bool = False
) -> int | None:
    chosen = choose_compaction(usages, free_bytes=free_bytes, is_space_short=is_space_short)
    return None if chosen is None else chosen.number


def test_nothing_to_do() -> None:
    assert choose() is None
    assert choose(usage(1, SIZE), usage(2, SIZE // 2)) is None


def test_needed_and_dead_bytes() -> None:
    segment = usage(4, 300, {1: 50, 2: 20})
    assert segment.needed_bytes == 370
    assert segment.dead_bytes == SIZE - 370


def test_more_than_half_dead_is_worth_it() -> None:
    assert choose(usage(1, SIZE), usage(2, SIZE // 2 - 1)) == 2


def test_wholly_dead_segments_go_first_and_in_order() -> None:
    # A tombstone is dropped with the last segment it names: what it kills must be gone before.
    assert choose(usage(1, 10), usage(2, 0), usage(3, 0)) == 2


def test_a_tombstone_keeps_its_segment() -> None:
    assert choose(usage(1, SIZE), usage(2, 0, {1: 60})) == 2
    assert choose(usage(1, SIZE), usage(2, 0, {1: 600})) is None


def test_the_lowest_one_is_finished_before_the_next_is_begun() -> None:
    assert choose(usage(1, SIZE // 3), usage(2, 10)) == 1


def test_copies_must_fit() -> None:
    assert choose(usage(1, 400), usage(2, 100), free_bytes=200) == 2
    assert choose(usage(1, 400), free_bytes=200) is None
    assert choose(usage(1, 0), free_bytes=0) == 1


def test_when_space_is_short_less_is_worth_it() -> None:
    segments = (usage(1, 880), usage(2, 800), usage(3, 990))
    assert choose(*segments) is None
    assert choose(*segments, is_space_short=True) == 2
    assert choose(usage(3, 990), is_space_short=True) is None
