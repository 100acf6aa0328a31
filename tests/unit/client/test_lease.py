"""Goal: what is beside an op is asked for when it helps, and not all the time when it does not."""

from __future__ import annotations

from msgspec.structs import replace

from dfs.client.lease import Lease
from tests.unit.client.test_record_cache import FILE, inode


def test_the_second_op_that_is_asked_wants_all_that_is_beside_it() -> None:
    lease = Lease()
    assert [lease.wants_more() for _ in range(2)] == [False, True]


def test_what_does_not_help_is_tried_ever_less_often() -> None:
    lease = Lease()
    asked = [number for number in range(1, 63) if lease.wants_more()]
    assert asked == [2, 6, 14, 30, 62]


def test_what_helps_is_tried_again_at_once() -> None:
    lease = Lease()
    while not lease.wants_more():
        pass
    lease.note_upgraded()
    assert lease.wants_more()


def test_only_what_is_known_and_shared_can_be_wanted() -> None:
    lease = Lease()
    assert not lease.may_be_wanted
    lease.inode = inode(FILE)
    assert lease.may_be_wanted
    lease.is_exclusive = True
    assert not lease.may_be_wanted


def test_a_directory_is_complete_when_as_many_names_are_known_as_it_has_entries() -> None:
    lease = Lease()
    assert not lease.is_complete
    lease.inode = replace(inode(FILE, size=1), mode=0o40755)
    assert not lease.is_complete
    lease.present_count = 1
    assert lease.is_complete
