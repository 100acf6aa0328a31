"""Goal: who gets leases, when they end, and who is waited for after a restart (I4).
Method: sessions that end in every way while an op waits for them; the durable records."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from dfs.core.messages import CloseSession
from dfs.core.namespace.keys import session_key
from dfs.core.namespace.records import SessionRecord, decode_record
from dfs.engine.memory_engine import MemoryEngine
from dfs.errors import NoSpace
from dfs.limits import SESSION_TTL_S
from dfs.meta.sessions import FORGOTTEN_AFTER_S
from dfs.types import ROOT
from tests.unit.meta.rig import Background, Mount, Threads, running, settle, unlink

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dfs.meta.server import MetaServer
    from dfs.types import InodeId

SOON_S = FORGOTTEN_AFTER_S + 0.1


async def keep_alive_for(mount: Mount, seconds: float) -> None:
    for _ in range(int(seconds / 5)):
        await trio.sleep(5)
        await mount.keep_alive()


def may_remember(engine: MemoryEngine, mount: Mount) -> bool:
    """What the session's durable record says."""
    [value] = engine.get([session_key(mount.session_id)])
    assert value is not None
    return decode_record(SessionRecord, value).may_remember


async def one_who_remembers(server: MetaServer) -> tuple[Mount, InodeId]:
    """A file `a`, and a mount that has it leased, as others may."""
    mount = await Mount.arrive(server, wants_leases=True)
    create = mount.create(b"a")
    await mount.do(create)
    await mount.give_back(ROOT, create.ino)
    assert await mount.remember(create.ino)
    return mount, create.ino


async def silence(mount: Mount) -> None:
    await trio.sleep(SESSION_TTL_S + 2)


async def orderly_end(mount: Mount) -> None:
    mount.close_link()


async def leaving(mount: Mount) -> None:
    await mount.ask(CloseSession(session_id=mount.session_id))


async def return_on_another_link(mount: Mount) -> None:
    await mount.come_back(mount.server, 9, wants_leases=True)


@pytest.mark.parametrize("end", [silence, orderly_end, leaving, return_on_another_link])
async def test_who_forgot_everything_is_waited_for_no_longer(
    end: Callable[[Mount], Awaitable[None]], autojump_clock: object
) -> None:
    """Goal: an op goes on when the session that is in its way is over, came back, or closed its
    link. Method: it waits for one that heard the recall and never answers."""
    async with running(MemoryEngine()) as server, trio.open_nursery() as nursery:
        mount, _ = await one_who_remembers(server)
        writer = await Mount.arrive(server, 2)
        op = Background(nursery, lambda: writer.do(unlink(b"a")))
        await settle()
        assert len(await mount.hear_recalls()) == 1
        assert not op.is_over
        nursery.start_soon(keep_alive_for, writer, SESSION_TTL_S)
        await end(mount)
        await trio.sleep(SOON_S)
        assert op.result.errno == 0
        nursery.cancel_scope.cancel()


async def test_only_sessions_that_answer_recalls_get_leases() -> None:
    async with running(MemoryEngine()) as server:
        mount = await Mount.arrive(server)
        create = mount.create(b"a")
        await mount.do(create)
        assert not await mount.remember(create.ino)
        await mount.come_back(server, 2, wants_leases=True)
        assert await mount.remember(create.ino)
        await mount.come_back(server, 3)
        assert not await mount.remember(create.ino)


@pytest.mark.parametrize("end", [orderly_end, return_on_another_link])
async def test_nothing_is_leased_by_the_answer_on_a_link_that_has_ended(
    end: Callable[[Mount], Awaitable[None]], autojump_clock: object
) -> None:
    """Method: the look at the record comes later than that, for it has to be fetched first."""
    engine, threads = MemoryEngine(), Threads()
    async with running(engine) as server:
        mount, ino = await one_who_remembers(server)
        await leaving(mount)
    async with running(engine, threads) as server, trio.open_nursery() as nursery:
        mount = await Mount.arrive(server, wants_leases=True)
        threads.delay_s = lambda: 1
        asking = Background(nursery, lambda: mount.remember(ino))
        await settle()
        threads.delay_s = None
        await end(mount)
        assert not asking.is_over
        await trio.sleep(5)
        assert asking.result is False
        nursery.cancel_scope.cancel()


async def test_the_record_says_whether_a_session_may_remember_anything(
    autojump_clock: object,
) -> None:
    """Goal: true before the first lease, false soon after the last. Method: each way in and out."""
    engine = MemoryEngine()
    async with running(engine) as server:
        mount, plain = await Mount.arrive(server, wants_leases=True), await Mount.arrive(server, 2)
        assert may_remember(engine, mount)
        assert not may_remember(engine, plain)
        mount.close_link()
        plain.close_link()
        await trio.sleep(SOON_S)
        assert not may_remember(engine, mount)
        await mount.come_back(server, 3, wants_leases=True)
        assert may_remember(engine, mount)
        await mount.come_back(server, 4)
        assert not may_remember(engine, mount)


async def test_who_comes_back_before_the_record_is_written_gets_leases(
    autojump_clock: object,
) -> None:
    """Goal: what the record says and what the server knows may differ, and the client's wish
    counts. Method: the note that nothing is remembered cannot be written; the session returns."""
    engine, threads = MemoryEngine(), Threads()
    async with running(engine, threads) as server:
        mount, ino = await one_who_remembers(server)
        threads.commit_errors += [NoSpace("full"), NoSpace("full")]
        mount.close_link()
        await trio.sleep(SOON_S)
        assert may_remember(engine, mount)
        await mount.come_back(server, 2, wants_leases=True)
        assert await mount.remember(ino)
        assert may_remember(engine, mount)


@pytest.mark.expects_warnings
async def test_a_session_whose_record_cannot_say_so_gets_no_leases(
    autojump_clock: object,
) -> None:
    engine, threads = MemoryEngine(), Threads()
    async with running(engine, threads) as server:
        mount, ino = await one_who_remembers(server)
        mount.close_link()
        await trio.sleep(SOON_S)
        threads.commit_errors += [NoSpace("full")]
        await mount.come_back(server, 2, wants_leases=True)
        assert not await mount.remember(ino)


async def test_after_a_restart_all_wait_for_those_who_may_remember(
    autojump_clock: object,
) -> None:
    """Goal: until each of them is back or has expired; nobody waits for the others. Who only looks
    waits, too: they may have changed what they alone had leased. Method: one comes back, one does
    not, one remembers nothing, and one closed its link in order."""
    engine = MemoryEngine()
    async with running(engine) as server:
        back, _ = await one_who_remembers(server)
        await Mount.arrive(server, 2, wants_leases=True)
        await Mount.arrive(server, 3)
    async with running(engine) as server, trio.open_nursery() as nursery:
        began_s = trio.current_time()
        writer = await Mount.arrive(server, 4, wants_leases=True)
        op = Background(nursery, lambda: writer.do(unlink(b"a")))
        looking = Background(nursery, lambda: writer.getattr(ROOT))
        await back.come_back(server, 5, wants_leases=True)
        await settle()
        assert not op.is_over
        assert not looking.is_over
        while not op.is_over:
            assert not looking.is_over
            await keep_alive_for(writer, 5)
        assert SESSION_TTL_S <= trio.current_time() - began_s <= SESSION_TTL_S + 7
        assert op.result.errno == 0
        assert looking.result.ino == ROOT


async def test_after_a_restart_nobody_waits_for_who_remembers_nothing(
    autojump_clock: object,
) -> None:
    engine = MemoryEngine()
    async with running(engine) as server:
        mount, _ = await one_who_remembers(server)
        await Mount.arrive(server, 2)
        mount.close_link()
        await trio.sleep(SOON_S)
    async with running(engine) as server:
        writer = await Mount.arrive(server, 3)
        assert (await writer.do(unlink(b"a"))).errno == 0


async def test_after_a_restart_nobody_waits_long_for_a_client_that_had_left(
    autojump_clock: object,
) -> None:
    """Goal: a client and the server die together, and others go on soon. Method: the link ends in
    order, and the server is started again before that counts."""
    engine = MemoryEngine()
    async with running(engine) as server:
        mount, ino = await one_who_remembers(server)
        mount.close_link()
        await settle()
    async with running(engine) as server:
        other = await Mount.arrive(server, 2)
        began_s = trio.current_time()
        assert (await other.lookup(b"a")).inode.ino == ino
        assert trio.current_time() - began_s < SOON_S
