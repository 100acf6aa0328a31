"""The cluster map: told once it is durable, and only then."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from msgspec.structs import replace

from dfs.core.messages import GetStatus, KeepAlive, ReportReply, ReportServer, StatFs
from dfs.core.namespace.keys import MAP_KEY, server_key, server_range
from dfs.core.namespace.records import MapRecord, ServerRecord, decode_record
from dfs.engine.memory_engine import MemoryEngine
from dfs.errors import FsError, NoSpace, WrongCluster
from dfs.limits import GIB, SERVER_DOWN_S
from dfs.types import ClusterId, ClusterMap, ServerId, ServerState, SpaceUsage
from tests.unit.meta.rig import Link, Mount, Threads, running, settle

if TYPE_CHECKING:
    from dfs.meta.server import MetaServer


def report(number: int, *, address: str = "", cluster_id: str = "") -> ReportServer:
    return ReportServer(
        server_id=ServerId(f"{number:016x}"),
        cluster_id=ClusterId(cluster_id),
        address=address or f"chunk:{number}",
        zone=f"z{number}",
        space=SpaceUsage(10 * GIB, 4 * GIB, 6 * GIB),
        block_count=5,
    )


async def tell(server: MetaServer, request: ReportServer) -> ReportReply:
    reply = await server.handle(request, b"", Link(99))
    assert isinstance(reply, ReportReply)
    return reply


def states(cluster_map: ClusterMap) -> dict[str, ServerState]:
    return {server.address: server.state for server in cluster_map.servers}


async def newest_map(mount: Mount) -> ClusterMap:
    found = (await mount.keep_alive()).cluster_map
    assert isinstance(found, ClusterMap)
    return found


async def test_a_newcomer_joins_the_map_durably() -> None:
    engine, threads = MemoryEngine(), Threads()
    async with running(engine, threads) as server:
        mount = await Mount.arrive(server)
        before = (await newest_map(mount)).map_epoch
        threads.hold_commits()
        reply = await tell(server, report(1))
        assert len(reply.cluster_id) == 32
        await settle()
        assert (await newest_map(mount)).servers == ()
        threads.release_commits()
        await settle()
        cluster_map = await newest_map(mount)
        assert states(cluster_map) == {"chunk:1": ServerState.UP}
        assert cluster_map.servers[0].weight == 10
        assert cluster_map.map_epoch > before
        [value] = engine.get([MAP_KEY])
        assert value is not None
        assert decode_record(MapRecord, value).map_epoch == cluster_map.map_epoch


async def test_reports_that_change_nothing_cost_no_commit() -> None:
    threads = Threads()
    async with running(MemoryEngine(), threads) as server:
        await tell(server, report(1))
        await settle()
        before = threads.commit_count
        for _ in range(5):
            reply = await tell(server, report(1))
        await settle()
        assert threads.commit_count == before
        assert states(reply.cluster_map) == {"chunk:1": ServerState.UP}


async def test_servers_are_known_after_a_restart_with_their_newest_address() -> None:
    engine = MemoryEngine()
    async with running(engine) as server:
        await tell(server, report(1))
        await tell(server, report(1, address="chunk:moved"))
        await settle()
        epoch_before = (await tell(server, report(2))).cluster_map.map_epoch
        await settle()
    [value] = engine.get([server_key(ServerId(f"{1:016x}"))])
    assert value is not None
    assert decode_record(ServerRecord, value).address == "chunk:moved"
    async with running(engine) as server:
        cluster_map = await newest_map(await Mount.arrive(server))
        assert set(states(cluster_map)) == {"chunk:moved", "chunk:2"}
        assert cluster_map.map_epoch > epoch_before


async def test_silent_servers_are_down_until_they_report(autojump_clock: object) -> None:
    async with running(MemoryEngine()) as server:
        mount = await Mount.arrive(server)
        for _ in range(int(SERVER_DOWN_S) + 3):
            await tell(server, report(1))
            await trio.sleep(1)
            if trio.current_time() < 2:
                await tell(server, report(2))
        cluster_map = await newest_map(mount)
        assert states(cluster_map) == {"chunk:1": ServerState.UP, "chunk:2": ServerState.DOWN}
        await tell(server, report(2))
        await trio.sleep(0.1)
        assert states(await newest_map(mount))["chunk:2"] is ServerState.UP


async def test_a_server_of_another_cluster_is_refused() -> None:
    engine = MemoryEngine()
    async with running(engine) as server:
        own = (await tell(server, report(1))).cluster_id
        await tell(server, report(1, cluster_id=own))
        with pytest.raises(WrongCluster, match="chunk:2 belongs to cluster beef"):
            await tell(server, report(2, cluster_id="beef"))
        await settle()
    assert len(engine.scan(*server_range(), 10)) == 1


async def test_reports_that_make_no_sense_are_refused() -> None:
    sound = report(1)
    async with running(MemoryEngine()) as server:
        for nonsense in (
            replace(sound, server_id=ServerId("")),
            replace(sound, address=""),
            replace(sound, zone="z" * 300),
            replace(sound, space=SpaceUsage(-1, 0, 0)),
        ):
            with pytest.raises(FsError, match="EINVAL"):
                await tell(server, nonsense)
        assert (await newest_map(await Mount.arrive(server))).servers == ()


@pytest.mark.expects_warnings
async def test_a_map_that_cannot_be_written_waits(autojump_clock: object) -> None:
    threads = Threads()
    async with running(MemoryEngine(), threads) as server:
        mount = await Mount.arrive(server)
        threads.commit_errors.append(NoSpace("full"))
        await tell(server, report(1))
        await trio.sleep(0.5)
        assert (await newest_map(mount)).servers == ()
        await tell(server, report(2))
        await trio.sleep(2)
        assert set(states(await newest_map(mount))) == {"chunk:1", "chunk:2"}


async def test_a_keep_alive_carries_the_map_only_when_it_is_new() -> None:
    async with running(MemoryEngine()) as server:
        mount = await Mount.arrive(server)
        cluster_map = await newest_map(mount)
        request = KeepAlive(session_id=mount.session_id, map_epoch=cluster_map.map_epoch)
        assert (await mount.ask(request)).cluster_map is None


async def test_space_is_the_sum_of_what_servers_report(autojump_clock: object) -> None:
    async with running(MemoryEngine()) as server:
        mount = await Mount.arrive(server)
        await tell(server, report(1))
        await tell(server, report(2))
        await settle()
        assert (await mount.ask(StatFs())).space == SpaceUsage(20 * GIB, 8 * GIB, 12 * GIB)
        await trio.sleep(2)
        status = (await mount.ask(GetStatus())).servers
        assert [s.block_count for s in status] == [5, 5]
        assert all(1.9 < s.silent_s < 2.1 for s in status)
