"""What workloads of several clients know of names and files that they share: a lie is noticed.

Each test tells a model what happened, then what somebody claims to have found: it must accept what
can be, and refuse what cannot.
"""

from __future__ import annotations

import pytest

from tests.simulation.workloads.link_counts import LinkedFiles, text_of
from tests.simulation.workloads.records import Log, Record
from tests.simulation.workloads.ring_turns import PLACEHOLDER, Place, Ring, Turn, TurnStep
from tests.simulation.workloads.tree import RENAME_EXCHANGE

A, B, SPARE = Place(0, b"a"), Place(1, b"b"), Place(0, b"spare")

# ---------------------------------------------------------------- ring


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        ([(b"x", 11), (b"y", 12), (b"z", 13)], ""),
        ([(b"x", 13), (b"y", 11), (b"z", 12)], ""),
        ([(b"x", 11), (b"y", 12)], "missing: [2]"),
        ([(b"x", 11), (b"y", 12), (b"z", 13), (b"t", 11)], "there twice: [0]"),
        ([(b"x", 11), (b"y", 12), (b"z", 13), (b"t", 99)], "not of the ring: [b't']"),
        ([(b"x", 11), (b"y", 11), (b"z", 13)], "missing: [1]; there twice: [0]"),
    ],
)
def test_a_ring_is_complete_or_not(found: list[tuple[bytes, int]], problem: str) -> None:
    ring = Ring(1, 1)
    ring.inos = {0: 11, 1: 12, 2: 13}
    assert ring.check(found) == problem


@pytest.mark.parametrize(
    ("found", "is_right"),
    [
        ({A: 1, B: 2}, True),
        ({A: 2, B: 1}, True),
        ({A: 1, B: 1}, False),
        ({A: 2}, False),
        ({A: 1, B: 2, SPARE: PLACEHOLDER}, False),
    ],
)
def test_an_exchange_happened_or_not(found: dict[Place, int], is_right: bool) -> None:
    turn = Turn({A: 1, B: 2}, [TurnStep(A, B, RENAME_EXCHANGE)])
    turn.begin()
    assert (turn.resolve(found) == "") == is_right
    if is_right:
        assert len(turn.steps) == (found[A] == 1), "it goes on where it was stopped"


def test_an_answered_step_has_happened() -> None:
    turn = Turn({A: 1, B: 2}, [TurnStep(A, SPARE, 0), TurnStep(B, A, 0)])
    turn.begin()
    turn.end()
    assert turn.resolve({A: 1, B: 2}) != ""
    assert turn.resolve({SPARE: 1, B: 2}) == ""


# ---------------------------------------------------------------- records


def _log(*records: Record) -> Log:
    log = Log()
    for record in records:
        log.begin("a", record)
        log.end("a")
    return log


FIRST, SECOND = Record(1, 1, 100), Record(2, 1, 300)


@pytest.mark.parametrize("is_ordered", [True, False])
def test_synced_records_are_all_there_whole_and_once(is_ordered: bool) -> None:
    log = _log(FIRST, SECOND)
    one, two = FIRST.encoded(), SECOND.encoded()
    assert log.check(one + two, is_ordered=is_ordered) == ""
    for wrong in (b"", one, two, one + two[:-1], one + one + two, one + two[:-1] + b"?"):
        assert log.check(wrong, is_ordered=is_ordered) != ""
    assert log.check(one + two + Record(3, 1, 50).encoded(), is_ordered=is_ordered) != ""
    assert (log.check(two + one, is_ordered=is_ordered) == "") != is_ordered


def test_records_of_one_writer_are_in_order_with_or_without_a_lock() -> None:
    later = Record(1, 2, 60)
    log = _log(FIRST, later)
    swapped = later.encoded() + FIRST.encoded()
    assert log.check(swapped, is_ordered=False).endswith("is out of order, or comes twice")


def test_a_record_whose_writer_died_may_be_there() -> None:
    log = _log(FIRST)
    log.begin("b", SECOND)
    log.see_death("b")
    assert log.check(FIRST.encoded(), is_ordered=False) == ""
    assert log.check(FIRST.encoded() + SECOND.encoded(), is_ordered=False) == ""


def test_only_one_has_the_lock_and_reads_what_the_last_one_synced() -> None:
    log = _log(FIRST)
    assert log.lock("a") == ""
    assert log.lock("b") == "a has the lock"
    assert log.check_tail(40, FIRST.encoded()[40:]) == ""
    assert log.check_tail(40, b"") != ""


# ---------------------------------------------------------------- links


@pytest.fixture
def files() -> LinkedFiles:
    """File 0 is inode 7, and has two names."""
    files = LinkedFiles(1)
    files.add(0, 7)
    files.begin("l0", {0: 1})
    files.end("l0", has_happened=True)
    return files


def test_a_link_count_is_the_number_of_names(files: LinkedFiles) -> None:
    with files.watching(0) as bounds:
        assert [bounds.check(nlink) == "" for nlink in (1, 2, 3)] == [False, True, False]
    assert files.check_names({7: 2}) == ""
    for wrong in ({7: 1}, {7: 3}, {}, {7: 2, 8: 1}):
        assert files.check_names(wrong) != ""


def test_ops_under_way_leave_link_counts_open(files: LinkedFiles) -> None:
    files.begin("l1", {0: -1})
    with files.watching(0) as bounds:
        assert [bounds.check(nlink) == "" for nlink in (0, 1, 2, 3)] == [False, True, True, False]
        files.begin("l2", {0: 1})
        files.end("l2", has_happened=True)
        assert [bounds.check(nlink) == "" for nlink in (1, 2, 3, 4)] == [True, True, True, False]
    files.end("l1", has_happened=True)
    with files.watching(0) as bounds:
        assert [bounds.check(nlink) == "" for nlink in (1, 2, 3)] == [False, True, False]


def test_synced_bytes_are_the_ones_to_read(files: LinkedFiles) -> None:
    old, new = text_of(0, 0), files.begin_write(0, "l0")
    assert files.begin_write(0, "l1") == b"", "one writes at a time"
    with files.reading(0) as reading:
        files.end_write(0, "l0")
        assert reading.check(old) == reading.check(new) == ""
    with files.reading(0) as reading:
        assert reading.check(old) != ""
        assert reading.check(new[:-1]) != ""


@pytest.mark.parametrize("version", [0, 1])
def test_a_write_of_a_dead_client_happened_or_not(files: LinkedFiles, version: int) -> None:
    files.begin_write(0, "l0")
    assert files.settle_write(0, "l0", text_of(0, version)) == ""
    with files.reading(0) as reading:
        assert reading.check(text_of(0, version)) == ""
        assert reading.check(text_of(0, 1 - version)) != ""
