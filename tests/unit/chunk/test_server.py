"""Goal: a whole chunk server starts, serves, reports, joins its cluster, and ends, and every reason
not to is one clear error.

Method: the real server over a network and a disk in memory, with a metadata server that the test
plays.
"""

from __future__ import annotations

import errno
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio

from dfs.chunk.server import run_chunk_server
from dfs.core.messages import (
    ChunkReply,
    ChunkStatusReply,
    Done,
    GetBlock,
    GetChunkStatus,
    MetaRequest,
    PutBlock,
    ReportReply,
    ReportServer,
)
from dfs.engine.api import EngineDamaged
from dfs.engine.memory_engine import MemoryEngine, MemoryStorage
from dfs.environment import Environment
from dfs.errors import DfsError, Fenced, FormatTooNew, Overloaded, UserError, WrongCluster
from dfs.limits import SERVER_REPORT_S
from dfs.rpc.client import RpcClient
from dfs.rpc.server import serve
from dfs.types import ClusterId, ClusterMap, MapEpoch
from tests.unit.chunk.memory_disk import MemoryDisk
from tests.unit.chunk.rig import Block, chunk_config, run_inline
from tests.unit.rpc.memory_network import MemoryNetwork

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CLUSTER = ClusterId("0123456789abcdef0123456789abcdef")
MAP = ClusterMap(map_epoch=MapEpoch(1), servers=(), copies=1, min_copies=1)


class Meta:
    """A metadata server as chunk servers see it: notes reports, and answers what the test says."""

    def __init__(self) -> None:
        self.reports: list[ReportServer] = []
        self.cluster_id = CLUSTER
        self.error: DfsError | None = None
        self.answer: Any = None

    async def handle(self, request: Any, payload: Any, connection: Any) -> Any:
        assert isinstance(request, ReportServer)
        if self.error is not None:
            raise self.error
        self.reports.append(request)
        return self.answer or ReportReply(cluster_id=self.cluster_id, cluster_map=MAP)


class Scene:
    """One machine with a chunk server's disk, and a network with a metadata server."""

    def __init__(self) -> None:
        self.network = MemoryNetwork()
        self.environment = Environment(
            network=self.network, run_blocking=run_inline, random=random.Random(1)
        )
        self.disk = MemoryDisk()
        self.storage = MemoryStorage()
        self.meta = Meta()

    async def run_meta(self, address: str = "meta:1", *, task_status: trio.TaskStatus[str]) -> None:
        listener = await self.network.listen(address)
        await serve(
            self.environment, listener, MetaRequest, self.meta.handle, task_status=task_status
        )

    async def run_chunk(
        self, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED, **config: Any
    ) -> None:
        await run_chunk_server(
            chunk_config(**config),
            self.environment,
            disk=self.disk,
            index_engine=MemoryEngine(self.storage),
            task_status=task_status,
        )

    @asynccontextmanager
    async def chunk_server(self, **config: Any) -> AsyncIterator[trio.Nursery]:
        """A chunk server for as long as the block runs; it ends by being cancelled."""

        async def run(*, task_status: trio.TaskStatus[str]) -> None:
            await self.run_chunk(task_status=task_status, **config)

        async with trio.open_nursery() as nursery:
            assert await nursery.start(run) == "chunk:1"
            yield nursery
            nursery.cancel_scope.cancel()
        self.disk = self.disk.process_killed()

    async def call(self, request: Any, payload: bytes = b"") -> tuple[Any, Any]:
        client: RpcClient[Any] = RpcClient(self.environment, "chunk:1", ChunkReply)
        async with client:
            return await client.call(request, payload)


async def test_blocks_over_the_wire_and_over_a_restart(
    autojump_clock: trio.testing.MockClock,
) -> None:
    scene = Scene()
    block = Block(1, size=300_000)
    async with trio.open_nursery() as nursery:
        await nursery.start(scene.run_meta)
        async with scene.chunk_server():
            reply, _ = await scene.call(PutBlock(header=block.header), block.stored)
            assert reply == Done()
        async with scene.chunk_server():
            _, stored = await scene.call(GetBlock(block_id=block.block_id))
            assert bytes(stored) == block.stored
        nursery.cancel_scope.cancel()


async def test_it_reports_and_joins_the_cluster(autojump_clock: trio.testing.MockClock) -> None:
    scene = Scene()
    async with trio.open_nursery() as nursery:
        await nursery.start(scene.run_meta)
        async with scene.chunk_server(zone="rack-1", advertise="public:7401"):
            await trio.sleep(3.5 * SERVER_REPORT_S)
        first, *later = scene.meta.reports
        assert len(later) == 3
        assert first.cluster_id == ""
        assert {report.cluster_id for report in later} == {CLUSTER}
        assert {report.server_id for report in scene.meta.reports} == {first.server_id}
        assert first.zone == "rack-1"
        assert first.address == "public:7401"
        assert first.block_count == 0
        assert first.space.free_bytes > 0
        async with scene.chunk_server():
            await trio.sleep(SERVER_REPORT_S / 2)
            status, _ = await scene.call(GetChunkStatus())
        assert isinstance(status, ChunkStatusReply)
        assert status.cluster_id == CLUSTER
        last = scene.meta.reports[-1]
        assert (last.server_id, last.cluster_id) == (first.server_id, CLUSTER)
        assert last.zone == first.server_id
        assert last.address == "chunk:1"
        nursery.cancel_scope.cancel()


async def test_it_keeps_trying_while_nobody_answers(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    scene = Scene()
    async with trio.open_nursery() as nursery:
        async with scene.chunk_server(meta=("gone:1", "meta:1")):
            await trio.sleep(60)
            assert caplog.text.count("reports do not get through: cannot reach gone:1") == 1
            await nursery.start(scene.run_meta)
            await trio.sleep(5 * SERVER_REPORT_S)
            assert len(scene.meta.reports) >= 3
            assert "reports get through to meta:1 again" in caplog.text
            scene.meta.error = Overloaded("busy")
            await trio.sleep(10 * SERVER_REPORT_S)
            scene.meta.error = None
            scene.meta.reports.clear()
            await trio.sleep(5 * SERVER_REPORT_S)
            assert scene.meta.reports
            scene.meta.answer = Done()
            await trio.sleep(10 * SERVER_REPORT_S)
        nursery.cancel_scope.cancel()
    assert caplog.text.count("reports do not get through") == 3
    assert "answers a report with nonsense" in caplog.text


async def test_another_clusters_directory(autojump_clock: trio.testing.MockClock) -> None:
    scene = Scene()
    async with trio.open_nursery() as nursery:
        await nursery.start(scene.run_meta)
        async with scene.chunk_server():
            await trio.sleep(SERVER_REPORT_S)
        scene.meta.cluster_id = ClusterId("cafe")
        with pytest.raises(WrongCluster, match=f"belongs to cluster {CLUSTER}"):
            await scene.run_chunk()
        assert scene.disk.is_closed
        scene.disk = scene.disk.process_killed()
        scene.meta.error = WrongCluster("not one of ours")
        with pytest.raises(WrongCluster, match="not one of ours"):
            await scene.run_chunk()
        nursery.cancel_scope.cancel()


async def test_two_servers_on_one_directory(autojump_clock: trio.testing.MockClock) -> None:
    scene = Scene()
    async with trio.open_nursery() as nursery:
        await nursery.start(scene.run_meta)
        async with scene.chunk_server():
            first = scene.disk
            scene.disk = first.process_killed()
            with pytest.raises(UserError, match="another chunk server is using this directory"):
                await scene.run_chunk()
            scene.disk = first
        nursery.cancel_scope.cancel()


async def test_an_address_that_is_taken(autojump_clock: trio.testing.MockClock) -> None:
    scene = Scene()
    await scene.network.listen("chunk:1")
    with pytest.raises(UserError, match="Address already in use"):
        await scene.run_chunk()


async def test_a_newer_directory() -> None:
    scene = Scene()
    scene.disk.write_at("server.json", 0, [b'{"format_version": 9, "server_id": "x"}'])
    with pytest.raises(FormatTooNew, match="data format 9"):
        await scene.run_chunk()
    assert scene.disk.is_closed


async def test_a_disk_that_fails_at_the_start() -> None:
    scene = Scene()
    scene.disk.fail("make_directory", errno.EIO)
    with pytest.raises(DfsError, match="data cannot be used: Input/output error"):
        await scene.run_chunk()


@pytest.mark.expects_warnings
async def test_an_index_that_fails_ends_the_server(
    autojump_clock: trio.testing.MockClock,
) -> None:
    scene = Scene()
    block = Block(1)
    ended: list[DfsError] = []

    async def run(*, task_status: trio.TaskStatus[str]) -> None:
        try:
            await scene.run_chunk(task_status=task_status)
        except EngineDamaged as error:
            ended.append(error)

    async with trio.open_nursery() as nursery:
        await nursery.start(run)
        scene.storage.power_cut()
        with pytest.raises(DfsError):
            await scene.call(PutBlock(header=block.header), block.stored)
        await trio.sleep(30)
        nursery.cancel_scope.cancel()
    assert [str(error) for error in ended] == ["the power of this engine was cut"]


@pytest.mark.expects_warnings
async def test_a_disk_without_statistics_does_not_end_the_reports(
    autojump_clock: trio.testing.MockClock,
) -> None:
    scene = Scene()
    scene.meta.error = Fenced("later")
    async with trio.open_nursery() as nursery:
        await nursery.start(scene.run_meta)
        async with scene.chunk_server():
            scene.disk.fail("space", errno.EIO, times=3)
            scene.meta.error = None
            await trio.sleep(20 * SERVER_REPORT_S)
            assert scene.meta.reports
        nursery.cancel_scope.cancel()
