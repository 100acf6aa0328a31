"""Goal: a session has alone what it makes and what nobody else remembers, and may tell of ops on it
later (I4, I8). Method: sessions that say what they did by themselves."""

from __future__ import annotations

import errno
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from dfs.core.namespace.ops import Link
from dfs.engine.memory_engine import MemoryEngine
from dfs.errors import Fenced, NoSpace, Overloaded
from dfs.limits import SESSION_TTL_S
from dfs.meta.sessions import FORGOTTEN_AFTER_S
from dfs.types import ROOT
from tests.unit.meta.rig import (
    NOW_NS,
    USER,
    Background,
    Mount,
    Threads,
    assert_sound,
    chmod,
    errnos,
    leases_of,
    running,
    settle,
    unlink,
    write_block,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dfs.types import InodeId


def alone(mount: Mount) -> list[InodeId]:
    """What the session has exclusively, as the server sees it."""
    return sorted(leases_of(mount.server).exclusive_of(mount.session_id))


@asynccontextmanager
async def two_mounts(
    threads: Threads | None = None,
) -> AsyncIterator[tuple[Mount, Mount, trio.Nursery]]:
    engine = MemoryEngine()
    async with running(engine, threads) as server, trio.open_nursery() as nursery:
        one = await Mount.arrive(server, 1, wants_leases=True)
        two = await Mount.arrive(server, 2, wants_leases=True)
        yield one, two, nursery
        nursery.cancel_scope.cancel()
    assert_sound(engine)


async def answer_all(mount: Mount, waiting: Background) -> None:
    """The session answers until nobody waits for it."""
    while not waiting.is_over:
        recalls = await mount.hear_recalls()
        assert recalls
        await mount.answer(*recalls)
        await settle()


# ---------------------------------------------------------------- what is a session's own


async def test_what_an_op_makes_and_changes_is_its_sessions_own() -> None:
    async with two_mounts() as (one, _, _):
        create = one.create(b"a")
        await one.do(create)
        assert alone(one) == sorted([ROOT, create.ino])
        assert sorted(one.told_exclusive) == alone(one)


async def test_what_somebody_else_remembers_is_not() -> None:
    """Method: another session has the directory leased; the new name is its maker's all the
    same."""
    async with two_mounts() as (one, two, nursery):
        assert await two.remember(ROOT)
        create = one.create(b"a")
        making = Background(nursery, lambda: one.do(create))
        await settle()
        await answer_all(two, making)
        assert alone(one) == [create.ino]
        assert one.told_exclusive == [create.ino]


async def test_sessions_that_answer_no_recalls_have_nothing_alone() -> None:
    engine = MemoryEngine()
    async with running(engine) as server:
        mount = await Mount.arrive(server)
        await mount.do(mount.create(b"a"))
        assert alone(mount) == mount.told_exclusive == []


async def test_what_was_taken_back_before_the_answer_is_not_told() -> None:
    """Goal: an answer says what holds when it is given. Method: somebody looks while the op's batch
    is written."""
    threads = Threads()
    async with two_mounts(threads) as (one, two, nursery):
        threads.hold_commits()
        create = one.create(b"a")
        making = Background(nursery, lambda: one.do(create))
        await settle()
        looking = Background(nursery, lambda: two.lookup(b"a"))
        await settle()
        await one.answer(*await one.hear_recalls())
        await settle()
        threads.release_commits()
        await settle()
        assert making.is_over
        assert ROOT not in one.told_exclusive
        await answer_all(one, looking)
        assert looking.result.inode.ino == create.ino


async def test_what_has_no_name_is_nobodys_own() -> None:
    """Method: a file is unlinked while it is open, and written after that."""
    async with two_mounts() as (one, _, _):
        create = one.create(b"a")
        await one.do(create, has_hold=True)
        assert create.ino in alone(one)
        await one.do(unlink(b"a"), is_foreseen=True)
        assert alone(one) == [ROOT]
        await one.do(write_block(create.ino, 1))
        await one.do(chmod(create.ino))
        assert alone(one) == [ROOT]
        assert one.told_exclusive == []


@pytest.mark.expects_warnings
async def test_what_could_not_be_made_is_nobodys_own() -> None:
    threads = Threads()
    async with two_mounts(threads) as (one, _, _):
        threads.commit_errors += [NoSpace("full")]
        create = one.create(b"a")
        assert (await one.do(create)).errno == errno.ENOSPC
        assert create.ino not in alone(one)


async def test_a_name_that_is_there_already_is_opened_and_not_taken() -> None:
    async with two_mounts() as (one, two, nursery):
        create = two.create(b"a")
        await two.do(create)
        again = one.create(b"a", is_exclusive=False)
        opening = Background(nursery, lambda: one.do(again))
        await settle()
        await answer_all(two, opening)
        assert opening.result.result.inode.ino == create.ino
        assert alone(one) == []


# ---------------------------------------------------------------- ops that were done before


async def test_a_foreseen_op_waits_for_nobody_and_is_told_nothing_new() -> None:
    """Goal: not even for its own session, which knew all that the op changes."""
    async with two_mounts() as (one, _, _):
        create = one.create(b"a")
        await one.do(create)
        ops = [
            one.number(op, is_foreseen=True)
            for op in (
                Link(credentials=USER, now_ns=NOW_NS, ino=create.ino, parent=ROOT, name=b"b"),
                unlink(b"a"),
                one.mkdir(b"d"),
            )
        ]
        outcomes = await one.send(*ops)
        assert errnos(outcomes) == [0, 0, 0]
        assert outcomes[1].result is not None
        assert outcomes[1].result.inode is not None
        assert outcomes[1].result.inode.nlink == 1
        assert one.told_exclusive == []
        assert alone(one) == sorted([ROOT, create.ino, ops[2].op.ino])  # type: ignore[union-attr]


@pytest.mark.expects_warnings
async def test_a_foreseen_op_that_finds_no_room_is_to_be_sent_again() -> None:
    """Goal: it has happened for its application: it may be late, but it does not fail."""
    threads = Threads()
    async with two_mounts(threads) as (one, _, _):
        directory = one.mkdir(b"d")
        await one.do(directory)
        threads.commit_errors += [NoSpace("full")]
        create = one.create(b"a", parent=directory.ino)
        ops = [
            one.number(op, is_foreseen=True) for op in (create, unlink(b"a", parent=directory.ino))
        ]
        with pytest.raises(Overloaded):
            await one.send(*ops)
        assert alone(one) == sorted([ROOT, directory.ino])
        assert errnos(await one.send(*ops)) == [0, 0]


async def test_foreseen_ops_behind_a_link_that_broke_come_again() -> None:
    """Goal: what they change is still their session's own. Method: the answer gets lost; the
    session names what it owes when it comes back, and nobody can look in between."""
    async with two_mounts() as (one, two, nursery):
        create = one.create(b"a")
        await one.do(create)
        ops = [one.number(chmod(create.ino, 0o711), is_foreseen=True)]
        await one.send(*ops)
        ops.append(one.number(unlink(b"a"), is_foreseen=True))
        await one.come_back(one.server, 9, wants_leases=True, exclusive=(create.ino, ROOT))
        assert alone(one) == sorted([ROOT, create.ino])
        looking = Background(nursery, lambda: two.lookup(b"a"))
        await settle()
        assert not looking.is_over
        assert errnos(await one.send(*ops)) == [0, 0]
        await answer_all(one, looking)
        assert looking.result.inode is None


async def test_an_op_of_a_newer_link_finds_what_it_will_make_reserved() -> None:
    """Goal: what a foreseen op is yet to make is named on return, too."""
    async with two_mounts() as (one, _, _):
        await one.do(one.mkdir(b"d"))
        create = one.create(b"a")
        numbered = one.number(create, is_foreseen=True)
        await one.come_back(one.server, 9, wants_leases=True, exclusive=(ROOT, create.ino))
        assert errnos(await one.send(numbered)) == [0]
        assert alone(one) == sorted([ROOT, create.ino])


async def test_who_returns_after_others_went_on_has_lost_its_session() -> None:
    """Method: it forgot everything when it came back once, and names what it owed only later."""
    async with two_mounts() as (one, two, nursery):
        create = one.create(b"a")
        await one.do(create)
        await one.come_back(one.server, 8, wants_leases=True)
        assert await two.remember(create.ino)
        with pytest.raises(Fenced, match="ended"):
            await one.come_back(one.server, 9, wants_leases=True, exclusive=(create.ino,))
        with pytest.raises(Fenced):
            await one.do(unlink(b"a"), is_foreseen=True)
        removing = Background(nursery, lambda: two.do(unlink(b"a")))
        await settle()
        await answer_all(two, removing)
        assert removing.result.errno == 0


# ---------------------------------------------------------------- clients that left


async def test_what_a_client_that_left_owes_is_waited_for_until_somebody_needs_it(
    autojump_clock: object,
) -> None:
    """Goal: it may come back and tell; it loses only what others needed meanwhile. Method: two that
    close their links in order; one comes back, of the other somebody looks at what it had."""
    async with two_mounts() as (one, two, nursery):
        third = await Mount.arrive(one.server, 3, wants_leases=True)
        mine, other = one.mkdir(b"mine"), one.mkdir(b"other")
        await one.do(mine)
        await one.do(other)
        making = Background(nursery, lambda: two.do(two.create(b"a", parent=other.ino)))
        await settle()
        await answer_all(one, making)
        for mount in (one, two):
            mount.close_link()
        await trio.sleep(FORGOTTEN_AFTER_S + 0.1)
        await third.keep_alive()
        assert mine.ino in alone(one)
        owed = one.number(one.create(b"x", parent=mine.ino), is_foreseen=True)
        await one.come_back(one.server, 8, wants_leases=True, exclusive=(mine.ino,))
        assert errnos(await one.send(owed)) == [0]
        began_s = trio.current_time()
        assert (await third.lookup(b"a", other.ino)).inode is not None
        assert trio.current_time() == began_s
        with pytest.raises(Fenced):
            await two.come_back(one.server, 9, wants_leases=True, exclusive=(other.ino,))


async def test_a_client_that_left_is_not_waited_for_before_it_surely_forgot(
    autojump_clock: object,
) -> None:
    async with two_mounts() as (one, two, nursery):
        await one.do(one.create(b"a"))
        looking = Background(nursery, lambda: two.lookup(b"a"))
        await settle()
        one.close_link()
        await trio.sleep(FORGOTTEN_AFTER_S - 0.1)
        assert not looking.is_over
        await trio.sleep(0.2)
        assert looking.result.inode is not None
        assert FORGOTTEN_AFTER_S < SESSION_TTL_S


async def test_numbers_of_foreseen_ops_are_told_like_others() -> None:
    """Goal: an op that was sent before it was answered is done once (I8)."""
    async with two_mounts() as (one, _, _):
        create = one.create(b"a")
        await one.do(create)
        numbered = one.number(chmod(create.ino, 0o711), is_foreseen=True)
        first, again = await one.send(numbered), await one.send(numbered)
        assert errnos(first) == errnos(again) == [0]
