"""Goal: whatever is wrong with a chunk server's directory, disk or cluster, the process says so in
one line or goes on without it, and never serves other bytes (I2).

Method: a real `dfs chunk` process; files damaged while it is down.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import trio

from dfs.core.messages import (
    DeleteBlocks,
    GetBlock,
    GetChunkStatus,
    HasBlocks,
    MetaRequest,
    PutBlock,
    ReportReply,
    VerifyBlocks,
)
from dfs.errors import CorruptBlock, NoSpace
from dfs.limits import KIB, MIB
from dfs.rpc.server import serve
from dfs.rpc.transport import system_environment
from dfs.types import ClusterId, ClusterMap, MapEpoch
from tests.cluster.chunk_process import ChunkProcess
from tests.unit.chunk.rig import Block

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.cluster


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ChunkProcess]:
    process = ChunkProcess(tmp_path)
    yield process
    process.kill()


async def filled(server: ChunkProcess, count: int = 8) -> list[Block]:
    """A server that was started, given blocks, and stopped."""
    blocks = [Block(number, size=100 * KIB) for number in range(count)]
    server.start()
    async with server.client() as client:
        for block in blocks:
            await client.call(PutBlock(header=block.header), block.stored)
    assert server.stop() == 0
    return blocks


async def verdicts(server: ChunkProcess, blocks: list[Block]) -> list[str]:
    async with server.client() as client:
        ids = tuple(block.block_id for block in blocks)
        reply, _ = await client.call(VerifyBlocks(block_ids=ids))
        return list(reply.verdicts)


async def test_flipped_bytes(server: ChunkProcess) -> None:
    blocks = await filled(server)
    [segment] = server.segments()
    with segment.open("r+b") as file:
        file.seek(segment.stat().st_size // 2)
        file.write(b"flipped")
    server.start()
    assert sorted(await verdicts(server, blocks)) == ["corrupt"] + ["good"] * 7
    bad = (await verdicts(server, blocks)).index("corrupt")
    assert f"block {blocks[bad].block_id.hex()}: bad copy in segment 1 at" in server.log()
    async with server.client() as client:
        with pytest.raises(CorruptBlock):
            await client.call(GetBlock(block_id=blocks[bad].block_id))
        await client.call(PutBlock(header=blocks[bad].header), blocks[bad].stored)
        _, stored = await client.call(GetBlock(block_id=blocks[bad].block_id))
        assert bytes(stored) == blocks[bad].stored
    assert await verdicts(server, blocks) == ["good"] * 8


async def test_a_truncated_segment(server: ChunkProcess) -> None:
    blocks = await filled(server)
    [segment] = server.segments()
    os.truncate(segment, 350 * KIB)
    server.start()
    assert await verdicts(server, blocks) == ["good"] * 3 + ["absent"] * 5
    assert "segment 1 has 358400 bytes" in server.log()
    async with server.client() as client:
        for block in blocks:
            await client.call(PutBlock(header=block.header), block.stored)
    assert await verdicts(server, blocks) == ["good"] * 8


def damage_index(path: Path, damage: str) -> None:
    """The file is large and mostly a hole: only its start is touched."""
    size = path.stat().st_size
    if damage == "gone":
        shutil.rmtree(path.parent)
    elif damage == "short":
        os.truncate(path, 5000)
    elif damage == "zeros":
        os.truncate(path, 0)
        os.truncate(path, size)
    else:
        with path.open("r+b") as file:
            file.seek(0 if damage == "garbage" else 8192)
            file.write(b"\xa5damaged" * 10_000)


@pytest.mark.parametrize("damage", ["garbage", "zeros", "short", "gone", "middle"])
async def test_a_damaged_index(server: ChunkProcess, damage: str) -> None:
    blocks = await filled(server)
    damage_index(server.data / "index" / "data.mdb", damage)
    for _ in range(4):  # LMDB may end the process on damaged pages: a supervisor starts it again
        try:
            server.start()
            break
        except AssertionError:
            server.kill()
    assert await verdicts(server, blocks) == ["good"] * 8
    assert "index: " in server.log()
    server.stop()
    server.start()
    assert await verdicts(server, blocks) == ["good"] * 8


async def test_two_servers_on_one_directory(server: ChunkProcess, tmp_path: Path) -> None:
    await filled(server)
    server.start()
    second = ChunkProcess(tmp_path)
    status, said = second.failure()
    assert status == 1
    assert (
        said.strip()
        .splitlines()[-1]
        .endswith(f"{server.data}: another chunk server is using this directory")
    )
    assert "Traceback" not in said
    async with server.client() as client:
        await client.call(GetChunkStatus())


async def test_a_newer_format(server: ChunkProcess) -> None:
    await filled(server)
    path = server.data / "server.json"
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 7'))
    status, said = server.failure()
    assert status == 1
    assert "data format 7 was written by a newer dfs" in said
    assert "Traceback" not in said


async def test_another_clusters_directory(tmp_path: Path) -> None:
    cluster_ids = [ClusterId("a" * 32), ClusterId("b" * 32)]
    cluster_map = ClusterMap(map_epoch=MapEpoch(1), servers=(), copies=1, min_copies=1)
    environment = system_environment()
    has_joined = trio.Event()

    async def handle(request: Any, payload: Any, connection: Any) -> ReportReply:
        if request.cluster_id:
            has_joined.set()
        return ReportReply(cluster_id=cluster_ids[0], cluster_map=cluster_map)

    listener = await environment.network.listen(f"unix:{tmp_path}/meta")
    server = ChunkProcess(tmp_path, meta=f"unix:{tmp_path}/meta")
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(serve, environment, listener, MetaRequest, handle)
            await trio.to_thread.run_sync(server.start)
            await has_joined.wait()
            server.stop()
            cluster_ids.pop(0)
            status, said = await trio.to_thread.run_sync(server.failure)
            nursery.cancel_scope.cancel()
    finally:
        server.kill()
    assert status == 1
    assert f"belongs to cluster {'a' * 32}, the metadata server to {'b' * 32}" in said
    assert "Traceback" not in said


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A data directory with a filesystem of 96 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small filesystem needs root")
    place = tmp_path / "data"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=96m", "none", str(place)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"tmpfs cannot be mounted here: {made.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


async def test_a_full_disk(small_disk: Path, server: ChunkProcess) -> None:
    assert server.data == small_disk
    server.start()
    kept: list[Block] = []
    async with server.client() as client:
        with pytest.raises(NoSpace):
            await _put_without_end(client, kept)
        # 64 MiB are the reserve.
        assert 16 <= len(kept) <= 32
        (small_disk / "filler").write_bytes(b"x" * (60 * MIB))
        more = Block(1000, size=MIB)
        with pytest.raises(NoSpace):
            await client.call(PutBlock(header=more.header), more.stored)
        assert await verdicts(server, kept) == ["good"] * len(kept)
    server.kill()
    server.start()
    async with server.client() as client:
        ids = tuple(block.block_id for block in kept)
        await client.call(DeleteBlocks(block_ids=ids[:5]))
        has, _ = await client.call(HasBlocks(block_ids=ids))
        assert has.has == (False,) * 5 + (True,) * (len(ids) - 5)


async def _put_without_end(client: Any, kept: list[Block]) -> None:
    for number in range(200):
        block = Block(number, size=MIB)
        await client.call(PutBlock(header=block.header), block.stored)
        kept.append(block)
