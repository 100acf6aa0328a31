"""Goal: a change waits for everyone who remembers what it changes, and for nobody else (I4).
Method: the recalls alone, without a server; sessions hear and answer as the test says."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from dfs.core.leases import Claim
from dfs.core.namespace.keys import dentry_key, inode_key, session_key
from dfs.meta import recalls as module
from dfs.meta.recalls import THE_SERVER, LeaseConflict, Recalls
from dfs.types import InodeId, SessionId
from tests.unit.meta.rig import Background, settle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dfs.core.messages import Recall

ONE, TWO, WRITER = SessionId(1), SessionId(2), SessionId(3)
DIRECTORY, FILE = InodeId(10), InodeId(11)
OF_FILE = {inode_key(FILE): None}
OF_NAME = {inode_key(DIRECTORY): None, dentry_key(DIRECTORY, b"a"): None}
OF_SESSION = {session_key(WRITER): None}


def leased(*sessions: SessionId, ino: InodeId = FILE) -> Recalls:
    recalls = Recalls([], ticks_max=9)
    for session_id in sessions:
        assert recalls.leases.grant(session_id, ino)
    return recalls


def conflict_of(
    recalls: Recalls, claim: Claim, changes: dict[bytes, None] = OF_FILE
) -> LeaseConflict:
    with pytest.raises(LeaseConflict) as caught:
        recalls.check(claim, WRITER, changes, {})
    return caught.value


def named(*recalls: Recall) -> list[dict[InodeId, tuple[bytes, ...]]]:
    return [recall.touched for recall in recalls]


@asynccontextmanager
async def making_way(
    recalls: Recalls, claim: Claim, changes: dict[bytes, None] = OF_FILE
) -> AsyncIterator[Background]:
    """A change that waits inside the block."""
    async with trio.open_nursery() as nursery:
        conflict = conflict_of(recalls, claim, changes)
        waiting = Background(nursery, lambda: recalls.make_way(claim, conflict))
        await settle()
        assert not waiting.is_over
        yield waiting
        nursery.cancel_scope.cancel()


# ---------------------------------------------------------------- changes


def test_a_change_is_free_where_nobody_remembers_anything() -> None:
    recalls = leased(ONE)
    recalls.check(None, WRITER, OF_NAME, {})
    recalls.check(None, ONE, OF_FILE, {FILE: set()})
    with pytest.raises(LeaseConflict):
        recalls.check(None, WRITER, OF_FILE, {})
    with pytest.raises(LeaseConflict):
        recalls.check(None, ONE, OF_FILE, {})


async def test_a_change_waits_until_all_have_answered() -> None:
    recalls, claim = leased(ONE, TWO), Claim()
    async with making_way(recalls, claim) as change:
        [first] = await recalls.wait(ONE, 0)
        [second] = await recalls.wait(TWO, 0)
        assert named(first, second) == [{FILE: ()}, {FILE: ()}]
        recalls.answer(ONE, [first.number])
        await settle()
        assert not change.is_over
        recalls.answer(TWO, [second.number])
        await settle()
        assert change.is_over
    recalls.check(claim, WRITER, OF_FILE, {})


async def test_nothing_is_leased_between_the_answer_and_the_change() -> None:
    recalls, claim = leased(ONE), Claim()
    async with making_way(recalls, claim):
        recalls.answer(ONE, [(await recalls.wait(ONE, 0))[0].number])
    assert not recalls.leases.grant(ONE, FILE)
    recalls.leases.release(claim)
    assert recalls.leases.grant(ONE, FILE)


async def test_of_a_directory_only_the_changed_name_is_recalled() -> None:
    recalls, claim = leased(ONE, ino=DIRECTORY), Claim()
    async with making_way(recalls, claim, OF_NAME) as change:
        [recall] = await recalls.wait(ONE, 0)
        assert named(recall) == [{DIRECTORY: (b"a",)}]
        recalls.answer(ONE, [recall.number])
        await settle()
        assert change.is_over
    recalls.check(claim, WRITER, OF_NAME, {})
    assert recalls.leases.has(ONE, DIRECTORY)


@pytest.mark.parametrize("is_told", [False, True])
async def test_a_session_that_forgot_everything_has_answered(is_told: bool) -> None:
    """Goal: its end, its return and the end of its link answer for it. Method: before and after it
    was told; its own numbers mean nothing afterwards."""
    recalls, claim = leased(ONE), Claim()
    async with making_way(recalls, claim) as change:
        told = await recalls.wait(ONE, 0) if is_told else ()
        recalls.forget_all(ONE)
        await settle()
        assert change.is_over
        assert await recalls.wait(ONE, 0) == ()
        recalls.answer(ONE, [recall.number for recall in told])
    recalls.check(claim, WRITER, OF_FILE, {})


async def test_answers_that_nobody_waits_for_change_nothing() -> None:
    recalls, claim = leased(ONE), Claim()
    recalls.answer(TWO, [1])
    async with making_way(recalls, claim) as change:
        [recall] = await recalls.wait(ONE, 0)
        recalls.answer(TWO, [recall.number])
        recalls.answer(ONE, [recall.number + 1])
        await settle()
        assert not change.is_over
        recalls.answer(ONE, [recall.number, recall.number])
        recalls.answer(ONE, [recall.number])
        await settle()
        assert change.is_over


# ---------------------------------------------------------------- telling


async def test_a_recall_is_told_at_once_to_whoever_waits(autojump_clock: object) -> None:
    recalls, claim = leased(ONE), Claim()
    async with trio.open_nursery() as nursery:
        began_s = trio.current_time()
        hearing = Background(nursery, lambda: recalls.wait(ONE, 60))
        deaf = Background(nursery, lambda: recalls.wait(TWO, 5))
        await trio.sleep(3)
        assert not hearing.is_over
        async with making_way(recalls, claim):
            assert named(*hearing.result) == [{FILE: ()}]
            assert trio.current_time() - began_s < 4
        await trio.sleep(1.9)
        assert not deaf.is_over
        await trio.sleep(0.2)
        assert deaf.result == ()
        nursery.cancel_scope.cancel()


async def test_each_recall_is_told_once() -> None:
    """Goal: whoever asks next gets the rest. Method: two who wait, and one who comes later."""
    recalls, claim = leased(ONE), Claim()
    async with trio.open_nursery() as nursery:
        both = [Background(nursery, lambda: recalls.wait(ONE, 60)) for _ in range(2)]
        await settle()
        async with making_way(recalls, claim):
            assert sorted(len(each.result) for each in both) == [0, 1]
            assert await recalls.wait(ONE, 0) == ()
        nursery.cancel_scope.cancel()


async def test_an_empty_outbox_is_waited_for_again(autojump_clock: object) -> None:
    """Goal: a told recall does not wake the next keep-alive."""
    recalls, claim = leased(ONE), Claim()
    async with making_way(recalls, claim):
        assert len(await recalls.wait(ONE, 60)) == 1
        began_s = trio.current_time()
        assert await recalls.wait(ONE, 7) == ()
        assert trio.current_time() - began_s == pytest.approx(7)


async def test_a_reply_takes_so_many_and_the_next_one_follows_at_once(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    monkeypatch.setattr(module, "RECALLS_PER_REPLY_MAX", 2)
    recalls = leased(ONE)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            claim = Claim()
            conflict = conflict_of(recalls, claim)
            Background(nursery, lambda c=claim, x=conflict: recalls.make_way(c, x))
        await settle()
        began_s = trio.current_time()
        first = await recalls.wait(ONE, 60)
        second = await recalls.wait(ONE, 60)
        assert trio.current_time() == began_s
        assert [len(first), len(second)] == [2, 1]
        assert len({recall.number for recall in (*first, *second)}) == 3
        nursery.cancel_scope.cancel()


async def test_a_session_that_is_over_waits_no_longer() -> None:
    recalls = leased(ONE)
    async with trio.open_nursery() as nursery:
        waiting = Background(nursery, lambda: recalls.wait(ONE, 1e9))
        await settle()
        recalls.forget_all(ONE)
        await settle()
        assert waiting.is_over
        nursery.cancel_scope.cancel()


# ---------------------------------------------------------------- strangers


async def test_changes_wait_until_no_stranger_is_left() -> None:
    """Goal: all of them, and only for what leases cover. Method: two strangers, one after the
    other."""
    recalls, claim = Recalls([ONE, TWO], ticks_max=9), Claim()
    recalls.check(None, WRITER, OF_SESSION, {})
    async with making_way(recalls, claim) as change:
        recalls.forget_all(ONE)
        await settle()
        assert not change.is_over
        with pytest.raises(LeaseConflict):
            recalls.check(claim, WRITER, OF_FILE, {})
        recalls.forget_all(TWO)
        await settle()
        assert change.is_over
    recalls.check(claim, WRITER, OF_FILE, {})


# ---------------------------------------------------------------- what the server itself changes


async def test_the_server_makes_way_for_its_own_changes() -> None:
    """Goal: inside the block nobody remembers anything of it. Method: leases before, in and after
    it, a stranger, and an error in the block."""
    recalls = Recalls([TWO], ticks_max=9)
    assert recalls.leases.grant(ONE, FILE)

    async def change() -> None:
        async with recalls.way_for({FILE: set()}):
            assert not recalls.leases.has(ONE, FILE)
            assert not recalls.leases.grant(ONE, FILE)
            raise ZeroDivisionError

    async with trio.open_nursery() as nursery:

        async def fail() -> None:
            with pytest.raises(ZeroDivisionError):
                await change()

        changing = Background(nursery, fail)
        await settle()
        recalls.answer(ONE, [(await recalls.wait(ONE, 0))[0].number])
        await settle()
        assert not changing.is_over
        recalls.forget_all(TWO)
        await settle()
        assert changing.is_over
    assert recalls.leases.grant(ONE, FILE)


async def test_what_nobody_remembers_is_claimed_all_the_same() -> None:
    recalls = Recalls([], ticks_max=9)
    async with recalls.way_for({FILE: set()}):
        assert not recalls.leases.grant(ONE, FILE)
    assert recalls.leases.grant(ONE, FILE)
    assert recalls.leases.in_the_way(None, THE_SERVER, {FILE: set()}, {}) != {}
