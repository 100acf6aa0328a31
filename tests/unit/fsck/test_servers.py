"""Goal: servers are asked what they can answer, named for people, and put aside when they fail.

Method: real chunk handlers behind a map that is made up.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from dfs.errors import BlockNotFound, CorruptBlock, Disconnected
from dfs.fsck.metadata import open_metadata
from dfs.fsck.servers import ChunkServers, open_chunk_servers
from dfs.types import BlockId, ClusterId, ServerState
from tests.unit.client.rig import META
from tests.unit.fsck.rig import Scene, volume

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import trio.testing

    from dfs.core.messages import StatusReply

ABSENT = BlockId(bytes(32))


async def _status(scene: Scene) -> StatusReply:
    async with open_metadata(scene.environment, [META]) as metadata:
        return await metadata.status()


@asynccontextmanager
async def _opened(scene: Scene) -> AsyncIterator[ChunkServers]:
    async with open_chunk_servers(scene.environment, await _status(scene)) as servers:
        yield servers


async def test_questions(autojump_clock: trio.testing.MockClock) -> None:
    async with volume() as scene, _opened(scene) as servers:
        assert servers.server_ids == tuple(sorted(one.server_id for one in scene.rig.chunks))
        assert servers.unreachable == []
        block_id = scene.blocks()[0]
        holder = scene.holders(block_id)[0]
        one = holder.server_id
        assert servers.name_of(one) == f"{one} at {holder.address}"
        assert await servers.has(one, [ABSENT, block_id]) == (False, True)
        assert await servers.verify(one, [ABSENT, block_id]) == ("absent", "good")


async def test_copying(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with volume() as scene, _opened(scene) as servers:
        block_id = scene.blocks()[0]
        source, [target] = scene.holders(block_id)[0], scene.others(block_id)
        await servers.copy_block(block_id, source.server_id, target.server_id)
        assert await target.store.verify([block_id]) == ["good"]
        with pytest.raises(BlockNotFound):
            await servers.copy_block(ABSENT, source.server_id, target.server_id)
        source.store.damage(block_id)
        with pytest.raises(CorruptBlock):
            await servers.copy_block(block_id, source.server_id, target.server_id)


async def test_putting_aside(autojump_clock: trio.testing.MockClock) -> None:
    async with volume() as scene, _opened(scene) as servers:
        one = servers.server_ids[1]
        assert servers.is_answering(one)
        servers.put_aside(one, Disconnected("it is gone"))
        assert not servers.is_answering(one)
        assert servers.unreachable == [f"{servers.name_of(one)}: it is gone"]
        assert one in servers.server_ids
        assert not servers.is_answering("nobody")
        assert servers.name_of("nobody") == "nobody"


async def test_a_server_that_is_out_is_not_asked(autojump_clock: trio.testing.MockClock) -> None:
    async with volume() as scene:
        status = await _status(scene)
        first, *others = status.cluster_map.servers
        servers = (replace(first, state=ServerState.OUT), *others)
        status = replace(status, cluster_map=replace(status.cluster_map, servers=servers))
        async with open_chunk_servers(scene.environment, status) as opened:
            assert first.server_id not in opened.server_ids
            assert opened.unreachable == []


async def test_servers_of_another_cluster_do_not_count(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with volume() as scene:
        status = await _status(scene)
        settings = replace(status.settings, cluster_id=ClusterId("f" * 32))
        status = replace(status, settings=settings)
        async with open_chunk_servers(scene.environment, status) as opened:
            assert opened.server_ids == ()
            assert all("it belongs to cluster " in line for line in opened.unreachable)
