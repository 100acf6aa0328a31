"""Read-ahead: windows that grow in sequence, collapse at random, and never overlap."""

from __future__ import annotations

import random
from itertools import pairwise

from dfs.core.readahead import NOTHING, ReadAhead
from dfs.limits import KIB, MIB, READ_AHEAD_BYTES_MAX, READ_AHEAD_BYTES_MIN

FILE = 1 << 40


def small() -> ReadAhead:
    """Windows of 10, 20 and 40 bytes."""
    return ReadAhead(window_bytes_min=10, window_bytes_max=40)


def read_on(ahead: ReadAhead, start: int, length: int, count: int) -> list[tuple[int, int]]:
    """What to fetch during `count` reads of `length` in sequence, without the empty ones."""
    ranges = [
        ahead.after_read(at, at + length, FILE)
        for at in range(start, start + count * length, length)
    ]
    return [found for found in ranges if found != NOTHING]


def test_the_window_doubles_up_to_its_limit() -> None:
    assert read_on(small(), 0, 5, 20) == [
        (5, 15),
        (15, 30),
        (30, 60),
        (60, 80),
        (80, 100),
        (100, 120),
        (120, 140),
    ]


def test_sequential_reading_is_always_ahead() -> None:
    ahead = ReadAhead()
    fetched_end = 128 * KIB
    for start in range(0, 64 * MIB, 128 * KIB):
        if start:
            assert start + 128 * KIB <= fetched_end
        low, high = ahead.after_read(start, start + 128 * KIB, 64 * MIB)
        if high > low:
            assert low == fetched_end
            fetched_end = high
        assert fetched_end <= start + 128 * KIB + READ_AHEAD_BYTES_MAX
    assert fetched_end == 64 * MIB


def test_a_first_read_at_the_start_begins_a_run_and_elsewhere_does_not() -> None:
    assert small().after_read(0, 5, FILE) == (5, 15)
    ahead = small()
    assert ahead.after_read(1000, 1005, FILE) == NOTHING
    assert ahead.after_read(1005, 1010, FILE) == (1010, 1020)


def test_random_reading_fetches_nothing() -> None:
    chooser = random.Random(3)
    ahead = ReadAhead()
    for _ in range(1000):
        start = chooser.randrange(1, FILE) & ~0xFFF
        assert ahead.after_read(start, start + 4 * KIB, FILE) == NOTHING


def test_a_jump_collapses_the_window() -> None:
    ahead = small()
    assert read_on(ahead, 0, 5, 20)[-1] == (120, 140)
    assert ahead.after_read(5000, 5005, FILE) == NOTHING
    assert ahead.after_read(5005, 5010, FILE) == (5010, 5020)
    assert ahead.after_read(0, 5, FILE) == (5, 15)


def test_reads_that_overtake_each_other_stay_one_run() -> None:
    """The kernel sends several at once."""
    ahead = ReadAhead()
    ranges = []
    step = 128 * KIB
    order = [1, 0, 3, 2, 4, 7, 6, 5, 8, 9, 11, 10, 13, 12, 15, 14]
    assert ahead.after_read(0, step, FILE) == (step, step + READ_AHEAD_BYTES_MIN)
    for at in order:
        low, high = ahead.after_read((at + 1) * step, (at + 2) * step, FILE)
        if high > low:
            ranges.append((low, high))
    assert ranges[0][0] == step + READ_AHEAD_BYTES_MIN
    assert all(low == before[1] for before, (low, _) in pairwise(ranges))
    assert ranges[-1][1] - ranges[-1][0] >= 2 * READ_AHEAD_BYTES_MIN


def test_nothing_lies_beyond_the_end_of_the_file() -> None:
    ahead = small()
    assert ahead.after_read(0, 5, 12) == (5, 12)
    assert ahead.after_read(5, 10, 12) == NOTHING
    assert ahead.after_read(10, 12, 12) == NOTHING
    assert ahead.after_read(12, 12, 12) == NOTHING
    assert small().after_read(0, 0, 0) == NOTHING


def test_a_file_that_grows_or_shrinks_in_a_run() -> None:
    ahead = small()
    assert ahead.after_read(0, 5, 12) == (5, 12)
    assert ahead.after_read(5, 10, 100) == (12, 30)
    assert ahead.after_read(10, 15, 20) == NOTHING
    assert ahead.after_read(15, 25, 20) == NOTHING
    assert ahead.after_read(25, 30, 200) == (30, 70)


def test_a_read_larger_than_the_window() -> None:
    ahead = small()
    assert ahead.after_read(0, 100, FILE) == (100, 110)
    assert ahead.after_read(100, 200, FILE) == (200, 220)
    assert ahead.after_read(200, 300, FILE) == (300, 340)


def test_ranges_of_a_run_never_overlap() -> None:
    chooser = random.Random(4)
    for _ in range(200):
        ahead = small()
        position, fetched_end = 0, 0
        for _ in range(50):
            start = max(0, position - chooser.randrange(0, 10))
            end = start + chooser.randrange(0, 30)
            low, high = ahead.after_read(start, end, 10_000)
            position = max(position, end)
            if high > low:
                assert low >= max(fetched_end, position)
                assert high <= position + 40
                fetched_end = high
