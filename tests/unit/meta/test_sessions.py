"""Sessions begin, come back and end; what they hold lives as long (I7)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
import trio

from dfs.core.messages import (
    ApplyOps,
    CloseSession,
    GetStatus,
    KeepAlive,
    Open,
    OpenSession,
    Release,
    TakeInodeRange,
)
from dfs.core.namespace.keys import inode_key, orphan_key, session_key
from dfs.engine.memory_engine import MemoryEngine
from dfs.errors import Disconnected, Fenced, FsError, NoSpace, WrongCluster
from dfs.limits import INODE_RANGE_COUNT, SESSION_TTL_S
from dfs.types import ROOT, ClusterId, InodeId, MapEpoch, SessionId
from tests.unit.meta.rig import (
    Background,
    Link,
    Mount,
    Threads,
    assert_sound,
    running,
    settle,
    unlink,
)

if TYPE_CHECKING:
    from dfs.meta.server import MetaServer


async def held_orphan(mount: Mount) -> InodeId:
    """An inode without a name that this mount holds open."""
    create = mount.create(b"orphan")
    await mount.do(create, has_hold=True)
    await mount.do(unlink(b"orphan"))
    return create.ino


def exists(engine: MemoryEngine, ino: int) -> bool:
    return engine.get([inode_key(InodeId(ino))]) != [None]


async def keep_alive_for(mount: Mount, seconds: float) -> None:
    for _ in range(int(seconds / 5)):
        await trio.sleep(5)
        await mount.keep_alive()


# ---------------------------------------------------------------- beginning


async def test_sessions_and_their_inode_numbers_are_never_given_twice() -> None:
    engine = MemoryEngine()
    seen: set[int] = set()
    sessions: set[int] = set()
    for _ in range(2):
        async with running(engine) as server:
            for number in (1, 2):
                mount = await Mount.arrive(server, number)
                ranges = [(mount.next_ino, mount.end_ino)]
                more = await mount.ask(TakeInodeRange(session_id=mount.session_id))
                ranges.append((more.first_ino, more.end_ino))
                for first, end in ranges:
                    assert end - first == INODE_RANGE_COUNT
                    assert seen.isdisjoint(range(first, end))
                    seen.update(range(first, end))
                assert mount.session_id not in sessions
                sessions.add(mount.session_id)
    assert ROOT not in seen
    assert_sound(engine)


async def test_a_session_is_durable_before_it_is_told() -> None:
    engine, threads = MemoryEngine(), Threads()
    async with running(engine, threads) as server, trio.open_nursery() as nursery:
        threads.hold_commits()
        arriving = Background(nursery, lambda: Mount.arrive(server))
        await settle()
        assert not arriving.is_over
        threads.release_commits()
        await settle()
        assert engine.get([session_key(arriving.result.session_id)]) != [None]


async def test_another_clusters_client_is_refused() -> None:
    async with running(MemoryEngine()) as server:
        with pytest.raises(WrongCluster, match="not 00ff"):
            await server.handle(
                OpenSession(client="lost", cluster_id=ClusterId("00ff")), b"", Link(1)
            )


async def test_requests_of_sessions_that_nobody_knows_are_fenced() -> None:
    async with running(MemoryEngine()) as server:
        nobody = SessionId(99)
        for request in (
            KeepAlive(session_id=nobody, map_epoch=MapEpoch(0)),
            ApplyOps(session_id=nobody, ops=()),
            Open(session_id=nobody, ino=ROOT),
            Release(session_id=nobody, inos=()),
            TakeInodeRange(session_id=nobody),
            OpenSession(client="", session_id=nobody),
        ):
            with pytest.raises(Fenced):
                await server.handle(request, b"", Link(1))


# ---------------------------------------------------------------- holds


async def test_a_held_inode_outlives_its_last_name() -> None:
    engine = MemoryEngine()
    async with running(engine) as server:
        mount, other = await Mount.arrive(server), await Mount.arrive(server, 2)
        create = mount.create(b"a")
        await mount.do(create)
        await mount.open(create.ino)
        await other.open(create.ino)
        await mount.do(unlink(b"a"))
        await mount.ask(Release(session_id=mount.session_id, inos=(create.ino,)))
        await settle()
        assert (await other.getattr(create.ino)).nlink == 0
        await other.ask(
            KeepAlive(session_id=other.session_id, map_epoch=MapEpoch(0), releases=(create.ino,))
        )
        await settle()
        assert not exists(engine, create.ino)
    assert_sound(engine)


async def test_releases_travel_with_ops() -> None:
    engine = MemoryEngine()
    async with running(engine) as server:
        mount = await Mount.arrive(server)
        ino = await held_orphan(mount)
        assert exists(engine, ino)
        mkdir = mount.number(mount.mkdir(b"d"))
        await mount.ask(ApplyOps(session_id=mount.session_id, ops=(mkdir,), releases=(ino,)))
        await settle()
        assert not exists(engine, ino)
    assert_sound(engine)


async def test_an_unheld_inode_goes_with_its_last_name_in_the_same_commit() -> None:
    engine, threads = MemoryEngine(), Threads()
    async with running(engine, threads) as server:
        mount = await Mount.arrive(server)
        create = mount.create(b"a")
        await mount.do(create)
        before = threads.commit_count
        await mount.do(unlink(b"a"))
        assert threads.commit_count == before + 1
        assert not exists(engine, create.ino)
        with pytest.raises(FsError, match="ESTALE"):
            await mount.open(create.ino)
    assert_sound(engine)


async def test_an_open_that_arrives_before_the_unlink_holds() -> None:
    """Though its records have to be fetched first, and the unlink's do not."""
    engine, threads = MemoryEngine(), Threads()
    async with running(engine) as server:
        mount = await Mount.arrive(server)
        create = mount.create(b"a")
        await mount.do(create)
    async with running(engine, threads) as server, trio.open_nursery() as nursery:
        await mount.come_back(server, 2)
        opening = Background(nursery, lambda: mount.open(create.ino))
        removing = Background(nursery, lambda: mount.do(unlink(b"a")))
        await settle()
        assert removing.result.errno == 0
        if opening.error is None:
            assert (await mount.getattr(create.ino)).nlink == 0
    assert_sound(engine)


async def test_a_name_that_a_failed_batch_gave_back_can_be_opened_at_once() -> None:
    engine, threads = MemoryEngine(), Threads()
    async with running(engine, threads) as server:
        mount = await Mount.arrive(server)
        create = mount.create(b"a")
        await mount.do(create, has_hold=True)
        threads.commit_errors.append(NoSpace("full"))
        assert (await mount.do(unlink(b"a"))).errno == errno.ENOSPC
        await mount.ask(Release(session_id=mount.session_id, inos=(create.ino,)))
        assert (await mount.open(create.ino)).inode.nlink == 1
    assert_sound(engine)


async def test_an_orphan_that_nobody_holds_cannot_be_opened_any_more() -> None:
    engine = MemoryEngine()
    async with running(engine) as server:
        mount, absent = await Mount.arrive(server), await Mount.arrive(server, 2)
        ino = await held_orphan(mount)
    async with running(engine) as server:
        await absent.come_back(server, 2)
        with pytest.raises(FsError, match="ESTALE"):
            await absent.open(ino)
        await mount.come_back(server, 3, held=(ino,))
        assert (await absent.open(ino)).inode.nlink == 0
        assert exists(engine, ino)
    assert_sound(engine)


# ---------------------------------------------------------------- ends


async def test_a_closed_session_lets_go_and_is_fenced() -> None:
    engine = MemoryEngine()
    async with running(engine) as server:
        mount = await Mount.arrive(server)
        ino = await held_orphan(mount)
        await mount.ask(CloseSession(session_id=mount.session_id))
        assert engine.get([session_key(mount.session_id)]) == [None]
        await settle()
        assert not exists(engine, ino)
        with pytest.raises(Fenced):
            await mount.do(mount.create(b"late"))
        await mount.ask(CloseSession(session_id=mount.session_id))
    assert_sound(engine)


async def test_a_silent_session_expires(autojump_clock: object) -> None:
    engine = MemoryEngine()
    async with running(engine) as server:
        mount, alive = await Mount.arrive(server), await Mount.arrive(server, 2)
        ino = await held_orphan(mount)
        await keep_alive_for(alive, SESSION_TTL_S - 5)
        assert exists(engine, ino)
        await keep_alive_for(alive, 10)
        assert not exists(engine, ino)
        assert engine.get([session_key(mount.session_id)]) == [None]
        for request in (
            KeepAlive(session_id=mount.session_id, map_epoch=MapEpoch(0)),
            OpenSession(client="", session_id=mount.session_id, held=(ino,)),
        ):
            with pytest.raises(Fenced):
                await mount.ask(request)
        assert (await alive.do(alive.create(b"a"))).errno == 0
        status = await alive.ask(GetStatus())
        assert [session.session_id for session in status.sessions] == [alive.session_id]
    assert_sound(engine)


async def test_ops_of_an_expired_session_that_were_waiting_change_nothing(
    autojump_clock: object,
) -> None:
    engine, threads = MemoryEngine(), Threads()
    async with running(engine, threads) as server, trio.open_nursery() as nursery:
        mount = await Mount.arrive(server)
        threads.delay_s = lambda: SESSION_TTL_S + 10
        late = mount.number(unlink(b"not in memory"))
        created = mount.number(mount.create(b"late"))
        waiting = Background(nursery, lambda: mount.send(late, created))
        await trio.sleep(SESSION_TTL_S + 5)
        threads.delay_s = None
        await trio.sleep(SESSION_TTL_S * 4)
        assert isinstance(waiting.error, Fenced)
        with pytest.raises(Fenced):
            await mount.keep_alive()
    assert [key for key in rows(engine) if key[2:3] == b"D"] == []
    assert_sound(engine)


def rows(engine: MemoryEngine) -> list[bytes]:
    return [key for page in engine.export(b"\0", b"\xff" * 4) for key, _ in page]


async def test_after_a_restart_nothing_is_reclaimed_before_everyone_is_back(
    autojump_clock: object,
) -> None:
    engine = MemoryEngine()
    async with running(engine) as server:
        mount, other = await Mount.arrive(server), await Mount.arrive(server, 2)
        ino = await held_orphan(mount)
        other_ino = await held_orphan(other)
    async with running(engine) as server:
        await trio.sleep(SESSION_TTL_S / 2)
        await other.come_back(server, 2)
        await settle()
        assert exists(engine, ino)
        assert exists(engine, other_ino), "its holder did not name it, but not everyone is back"
        # The first one returns with what it holds; then only what nobody holds goes.
        await mount.come_back(server, 3, held=(ino,))
        await trio.sleep(1)
        assert exists(engine, ino)
        assert not exists(engine, other_ino)
    assert_sound(engine)


async def test_who_does_not_come_back_in_time_is_expired(autojump_clock: object) -> None:
    engine = MemoryEngine()
    async with running(engine) as server:
        gone, back = await Mount.arrive(server), await Mount.arrive(server, 2)
        ino = await held_orphan(gone)
    async with running(engine) as server:
        await back.come_back(server, 2)
        await keep_alive_for(back, SESSION_TTL_S - 5)
        assert exists(engine, ino)
        with pytest.raises(Disconnected):
            await _ask(server, gone)
        await keep_alive_for(back, 15)
        assert not exists(engine, ino)
        with pytest.raises(Fenced):
            await gone.come_back(server, 5, held=(ino,))
    assert_sound(engine)


async def _ask(server: MetaServer, mount: Mount) -> object:
    """A request on a link on which the session was not opened is no sign of life."""
    return await server.handle(
        KeepAlive(session_id=mount.session_id, map_epoch=MapEpoch(0)), b"", Link(9)
    )


async def test_an_end_that_cannot_be_written_frees_nothing_yet(autojump_clock: object) -> None:
    """If the server restarts now, the session may come back with what it holds."""
    engine, threads = MemoryEngine(), Threads()
    async with running(engine, threads) as server:
        mount = await Mount.arrive(server)
        ino = await held_orphan(mount)
        threads.commit_errors += [NoSpace("full")]
        with pytest.raises(NoSpace):
            await mount.ask(CloseSession(session_id=mount.session_id))
        await settle()
        assert exists(engine, ino)
        with pytest.raises(Fenced):
            await mount.keep_alive()
        await trio.sleep(5)
        assert not exists(engine, ino)
        assert engine.get([orphan_key(ino)]) == [None]
    assert_sound(engine)


@pytest.mark.parametrize("is_opening_first", [False, True])
async def test_an_end_and_an_opening_that_race(
    is_opening_first: bool, autojump_clock: object
) -> None:
    """Either the session lives on with all that it holds, or it is gone for good."""
    engine, threads = MemoryEngine(), Threads()
    async with running(engine, threads) as server, trio.open_nursery() as nursery:
        mount = await Mount.arrive(server)
        ino = await held_orphan(mount)
        threads.hold_commits()
        await trio.sleep(SESSION_TTL_S - 1)
        if not is_opening_first:
            await trio.sleep(3)
        opening = Background(nursery, lambda: mount.come_back(server, 2, held=(ino,)))
        await settle()
        threads.release_commits()
        await trio.sleep(5)
        assert opening.is_over
        if is_opening_first:
            assert opening.error is None
            assert exists(engine, ino)
            assert (await mount.do(mount.create(b"a"))).errno == 0
        else:
            assert isinstance(opening.error, Fenced)
            assert not exists(engine, ino)
    assert_sound(engine, {ino})


async def test_what_a_link_lost_can_be_opened_again_on_the_next(autojump_clock: object) -> None:
    """A client whose link broke returns within its time and goes on."""
    engine = MemoryEngine()
    async with running(engine) as server:
        mount = await Mount.arrive(server)
        ino = await held_orphan(mount)
        for link_number in range(2, 6):
            await trio.sleep(SESSION_TTL_S - 2)
            reply = await mount.come_back(server, link_number, held=(ino,))
            assert reply.last_op == mount.next_number - 1
            assert (await mount.do(mount.create(b"%d" % link_number))).errno == 0
        assert (await mount.do(unlink(b"none"))).errno == errno.ENOENT
        assert exists(engine, ino)
    assert_sound(engine)


async def test_an_opening_that_lingered_on_an_older_link_changes_nothing() -> None:
    """Goal: what the client holds by now stays held, and its link stays its link (I6)."""
    async with running(MemoryEngine()) as server:
        mount = await Mount.arrive(server)
        create = mount.create(b"a")
        await mount.do(create)
        newer = OpenSession(client="m", session_id=mount.session_id, held=(create.ino,), opening=3)
        older = OpenSession(client="m", session_id=mount.session_id, opening=2)
        await server.handle(newer, b"", Link(8))
        with pytest.raises(Disconnected):
            await server.handle(older, b"", Link(7))
        mount.link = Link(8)
        await mount.do(unlink(b"a"))
        await settle()
        assert (await mount.getattr(create.ino)).nlink == 0
