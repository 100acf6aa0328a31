"""Goal: what one session has alone is looked at only after it has answered, and what is owed of it
outlives a link (I4). Method: the recalls alone, without a server; sessions hear and answer as the
test says."""

from __future__ import annotations

import pytest
import trio

from dfs.core.leases import Claim
from dfs.core.namespace.keys import inode_key
from dfs.meta.recalls import LeaseConflict, Recalls
from dfs.types import InodeId, SessionId
from tests.unit.meta.rig import Background, settle

ONE, TWO, WRITER = SessionId(1), SessionId(2), SessionId(3)
DIRECTORY, FILE = InodeId(10), InodeId(11)
OF_FILE = {inode_key(FILE): None}


def leased(*sessions: SessionId, ino: InodeId = FILE) -> Recalls:
    recalls = Recalls([], ticks_max=9)
    for session_id in sessions:
        assert recalls.leases.grant(session_id, ino)
    return recalls


async def looked_at(recalls: Recalls, nursery: trio.Nursery) -> Background:
    """Somebody who waits to look at the file."""
    with pytest.raises(LeaseConflict) as caught:
        recalls.check_sight(WRITER, [FILE, DIRECTORY])
    looking = Background(nursery, lambda: recalls.make_way(Claim(), caught.value))
    await settle()
    assert not looking.is_over
    return looking


async def test_who_looks_waits_for_whoever_has_it_alone_and_takes_nothing_away() -> None:
    """Goal: the lease stays, shared. Method: its holder answers what it was told."""
    recalls = Recalls([], ticks_max=9)
    recalls.leases.take(ONE, FILE)
    recalls.check_sight(ONE, [FILE])
    async with trio.open_nursery() as nursery:
        looking = await looked_at(recalls, nursery)
        [recall] = await recalls.wait(ONE, 0)
        assert recall.is_shared
        assert recall.touched == {FILE: ()}
        recalls.answer(ONE, [recall.number])
        await settle()
        assert looking.is_over
    assert recalls.leases.has(ONE, FILE)
    assert not recalls.leases.is_exclusive(ONE, FILE)
    recalls.check_sight(WRITER, [FILE])


async def test_what_is_shared_is_looked_at_without_a_word() -> None:
    recalls = leased(ONE, TWO)
    recalls.check_sight(WRITER, [FILE, DIRECTORY])
    assert await recalls.wait(ONE, 0) == ()


async def test_a_change_of_what_is_anothers_own_takes_the_lease() -> None:
    recalls = Recalls([], ticks_max=9)
    recalls.leases.take(ONE, FILE)
    with pytest.raises(LeaseConflict) as caught:
        recalls.check(None, WRITER, OF_FILE, {})
    async with trio.open_nursery() as nursery:
        change = Background(nursery, lambda: recalls.make_way(Claim(), caught.value))
        await settle()
        [recall] = await recalls.wait(ONE, 0)
        assert not recall.is_shared
        assert not change.is_over
        recalls.answer(ONE, [recall.number])
    assert not recalls.leases.has(ONE, FILE)


async def test_who_looks_waits_for_strangers() -> None:
    """Goal: they may have changed it by themselves. Method: two, one after the other."""
    recalls = Recalls([ONE, TWO], ticks_max=9)
    async with trio.open_nursery() as nursery:
        looking = await looked_at(recalls, nursery)
        assert recalls.come_back(ONE, [])
        await settle()
        assert not looking.is_over
        assert recalls.come_back(TWO, [FILE])
        await settle()
        assert looking.is_over
    with pytest.raises(LeaseConflict) as caught:
        recalls.check_sight(WRITER, [FILE])
    assert caught.value.recalls == {TWO: {FILE: set()}}


# ---------------------------------------------------------------- those who come back, or do not


async def test_who_comes_back_keeps_what_it_owes_and_nothing_else() -> None:
    recalls = leased(ONE, ino=DIRECTORY)
    recalls.leases.take(ONE, FILE)
    assert recalls.come_back(ONE, [FILE])
    assert recalls.leases.exclusive_of(ONE) == [FILE]
    assert not recalls.leases.has(ONE, DIRECTORY)
    assert recalls.come_back(ONE, ())
    assert recalls.leases.count(ONE) == 0


async def test_who_comes_back_too_late_is_told_so() -> None:
    """Goal: what others have a lease on by now may be other than what it was changed from."""
    recalls = leased(TWO)
    assert not recalls.come_back(ONE, [DIRECTORY, FILE])


async def test_a_recall_is_answered_by_a_return_and_made_again() -> None:
    """Goal: nobody looks before what is still owed has come. Method: who looks tries again when the
    holder is back, and finds it in the way once more."""
    recalls = Recalls([], ticks_max=9)
    recalls.leases.take(ONE, FILE)
    async with trio.open_nursery() as nursery:
        looking = await looked_at(recalls, nursery)
        assert recalls.come_back(ONE, [FILE])
        await settle()
        assert looking.is_over
    with pytest.raises(LeaseConflict):
        recalls.check_sight(WRITER, [FILE])


def noting_ends(recalls: Recalls) -> list[SessionId]:
    """The sessions that are ended, as `Sessions` does."""
    ended: list[SessionId] = []

    def end(session_id: SessionId) -> None:
        ended.append(session_id)
        recalls.forget_all(session_id)

    recalls.end_session = end
    return ended


async def test_a_client_that_left_with_nothing_of_its_own_is_forgotten() -> None:
    recalls = leased(ONE)
    ended = noting_ends(recalls)
    assert not recalls.depart(ONE)
    assert not recalls.leases.has(ONE, FILE)
    assert ended == []


@pytest.mark.parametrize("is_looking", [True, False])
async def test_what_a_client_that_left_had_alone_is_kept_until_others_need_it(
    is_looking: bool,
) -> None:
    recalls = Recalls([], ticks_max=9)
    ended = noting_ends(recalls)
    recalls.leases.take(ONE, FILE)
    assert recalls.depart(ONE)
    recalls.check_sight(WRITER, [DIRECTORY])
    assert recalls.leases.is_exclusive(ONE, FILE)
    assert ended == []
    look, change = recalls.check_sight, recalls.check
    with pytest.raises(LeaseConflict) as caught:
        look(WRITER, [FILE]) if is_looking else change(None, WRITER, OF_FILE, {})
    await recalls.make_way(Claim(), caught.value)
    assert ended == [ONE]
    recalls.check_sight(WRITER, [FILE])


async def test_a_client_that_leaves_while_others_wait_is_ended_at_once() -> None:
    recalls = Recalls([], ticks_max=9)
    ended = noting_ends(recalls)
    recalls.leases.take(ONE, FILE)
    async with trio.open_nursery() as nursery:
        looking = await looked_at(recalls, nursery)
        assert recalls.depart(ONE)
        await settle()
        assert looking.is_over
    assert ended == [ONE]


async def test_a_client_that_is_back_has_not_left() -> None:
    recalls = Recalls([], ticks_max=9)
    ended = noting_ends(recalls)
    recalls.leases.take(ONE, FILE)
    assert recalls.depart(ONE)
    assert recalls.come_back(ONE, [FILE])
    async with trio.open_nursery() as nursery:
        await looked_at(recalls, nursery)
        assert ended == []
        nursery.cancel_scope.cancel()
