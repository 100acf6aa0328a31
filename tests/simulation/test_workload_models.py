"""What workloads know of their files and directories: a lie of the product is noticed."""

from __future__ import annotations

import random

import pytest

from dfs.types import InodeId
from tests.simulation.workloads.crowd_state import Crowd
from tests.simulation.workloads.kept import Kept
from tests.simulation.workloads.shared_names import SharedNames

OWNER = 1
OLD_INO, NEW_INO = InodeId(7), InodeId(8)


@pytest.fixture
def crowd() -> Crowd:
    """Two names are there, a third is in doubt."""
    crowd = Crowd()
    for name in (b"a", b"b", b"c"):
        crowd.doubt(name, OWNER)
    crowd.settle(b"a", OWNER, is_there=True)
    crowd.settle(b"b", OWNER, is_there=True)
    return crowd


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ([b"a", b"b"], ""),
        ([b"c", b"b", b"a"], ""),
        ([b"a"], "1 missing: [b'b']"),
        ([b"a", b"b", b"d"], "1 should not be there: [b'd']"),
        ([b"a", b"b", b"a"], "1 listed twice: [b'a']"),
        ([b"a", b"b", b"c", b"c"], "1 listed twice: [b'c']"),
    ],
)
def test_a_listing_holds_what_must_be_there_once(
    crowd: Crowd, names: list[bytes], problem: str
) -> None:
    with crowd.listing() as listing:
        assert listing.check(names) == problem


def test_what_comes_or_goes_while_listing_may_be_in_it(crowd: Crowd) -> None:
    with crowd.listing() as listing:
        crowd.doubt(b"a", OWNER)
        crowd.settle(b"a", OWNER, is_there=False)
        crowd.doubt(b"d", OWNER)
        crowd.settle(b"d", OWNER, is_there=True)
        assert listing.check([b"b"]) == ""
        assert listing.check([b"a", b"b", b"d"]) == ""


def test_what_went_before_listing_must_not_be_in_it(crowd: Crowd) -> None:
    crowd.doubt(b"a", OWNER)
    crowd.settle(b"a", OWNER, is_there=False)
    with crowd.listing() as listing:
        assert listing.check([b"a", b"b"]) == "1 should not be there: [b'a']"


@pytest.mark.parametrize(
    ("versions", "found", "problem"),
    [
        ((), b"old", ""),
        ((), b"new", "byte 0 of 3: 6e6577, expected 6f6c64"),
        ((), None, "it is gone"),
        ((b"newer",), b"oldew", "byte 4 of 5: 77, expected  or 72"),
        ((b"newer",), b"oldr", "byte 3 of 4: 72, expected  or 6572"),
        ((b"newer",), b"newer", ""),
        ((b"", b"newer"), b"new", ""),
        ((None,), b"old", ""),
        ((None,), None, ""),
        ((None,), b"old.", "size 4, expected 3"),
    ],
)
def test_a_file_holds_what_the_step_under_way_makes_of_it(
    versions: tuple[bytes | None, ...], found: bytes | None, problem: str
) -> None:
    kept = Kept()
    kept.settle(b"old")
    if versions:
        kept.begin(*versions)
    assert kept.check(found) == problem


def test_where_nothing_is_nothing_is_found() -> None:
    assert Kept().check(None) == ""
    assert Kept().check(b"old") == "3 bytes are there, but nothing should be"


@pytest.fixture
def shared() -> SharedNames:
    """A file that has a name, and one that lost it and is open in two tasks."""
    shared = SharedNames([b"a"])
    for task in ("o1", "o2"):
        shared.hold(OLD_INO, task)
    shared.settle(b"a", OLD_INO, b"old")
    shared.settle(b"a", NEW_INO, b"new")
    return shared


def test_a_name_leads_to_the_file_that_got_it_last(shared: SharedNames) -> None:
    assert shared.check(b"a", NEW_INO) == ""
    assert shared.check(b"a", OLD_INO) == "leads to 7, not to 8"
    assert shared.check(b"a", None) == "leads to None, not to 8"
    assert shared.gone == {OLD_INO}


def test_a_file_without_a_name_is_its_last_holders_alone(shared: SharedNames) -> None:
    assert not shared.is_alone_with(OLD_INO, "o1")
    shared.let_go(OLD_INO, "o2")
    assert shared.is_alone_with(OLD_INO, "o1")
    shared.forget("o1")
    assert not shared.is_held(OLD_INO)


def test_a_name_is_claimed_by_one_task_at_a_time(shared: SharedNames) -> None:
    assert shared.claim("o1", random.Random(1)) == b"a"
    assert shared.claim("o2", random.Random(1)) is None
    assert shared.claimed_by("o1") == [b"a"]
    shared.free(b"a")
    assert shared.claim("o2", random.Random(1)) == b"a"
