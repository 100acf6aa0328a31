"""Goal: fsck says the truth of a cluster in use, whoever comes and goes meanwhile.

Method: real servers in one process; what happens in the middle of a check is started by its own
progress.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import trio
import trio.testing

from dfs.client.files import Files
from dfs.core.namespace import keys
from dfs.core.namespace.records import Inode
from dfs.errors import Disconnected, UserError
from dfs.fsck.census import take_census
from dfs.fsck.check import check_cluster
from dfs.fsck.copies import Copies
from dfs.fsck.metadata import open_metadata
from dfs.fsck.report import Problems, Report, ignore_progress
from dfs.fsck.servers import open_chunk_servers
from tests.unit.client.rig import BLOCK, META, ROOT_USER, pattern
from tests.unit.fsck.rig import INODES, LARGE, LARGE_BLOCKS, Scene, said, volume

if TYPE_CHECKING:
    from collections.abc import Callable

    from dfs.client.client import Client

pytestmark = pytest.mark.expects_warnings  # servers are killed in the middle


async def test_a_sound_cluster_is_clean(autojump_clock: trio.testing.MockClock) -> None:
    async with volume() as scene:
        report = await scene.check(verify_data=True)
        assert report.is_clean
        assert report.problems == []
        assert report.repaired == []
        assert report.inodes == len(INODES)
        assert report.directories == 3
        assert report.orphans == 0
        assert report.extents == LARGE_BLOCKS + 1
        assert report.blocks == LARGE_BLOCKS
        assert report.copies == report.verified_copies == 2 * LARGE_BLOCKS
        assert report.unreachable == []
        assert len(report.cluster_id) == 32
        assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report


async def test_an_empty_cluster_without_chunk_servers(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with volume() as scene:
        async with scene.rig.client() as client:
            await Files(client, ROOT_USER).unlink(LARGE)
        for chunk in scene.rig.chunks:
            chunk.kill()
        report = await scene.check(verify_data=True)
        assert report.problems == []
        assert len(report.unreachable) == 3


async def test_progress_adds_up(autojump_clock: trio.testing.MockClock) -> None:
    seen: dict[str, list[tuple[int, int | None]]] = {}

    def progress(phase: str, done: int, total: int | None) -> None:
        seen.setdefault(phase, []).append((done, total))

    async with volume() as scene:
        await scene.check(verify_data=True, progress=progress)
    assert list(seen) == ["records", "block copies", "every byte"]
    for phase, steps in seen.items():
        assert steps == sorted(steps, key=lambda step: step[0])
        assert phase == "records" or steps[-1][0] == steps[-1][1]
    assert seen["records"][-1][0] > len(INODES)
    assert seen["every byte"][-1] == (2 * LARGE_BLOCKS, 2 * LARGE_BLOCKS)


# ---------------------------------------------------------------- servers that are not there


async def test_no_metadata_server(autojump_clock: trio.testing.MockClock) -> None:
    async with volume() as scene:
        scene.rig.kill_meta()
        with pytest.raises(UserError) as caught:
            await check_cluster(scene.environment, ["elsewhere:1", META])
        assert str(caught.value).startswith(
            "no metadata server answers: cannot reach elsewhere:1: Connection refused; "
        )
        await scene.restart_meta()
        assert (await check_cluster(scene.environment, ["elsewhere:1", META])).is_clean


class At:
    """A progress that does something once, when a phase is reached."""

    def __init__(self, phase: str, do: Callable[[], Any]) -> None:
        self._phase = phase
        self._do = do
        self.is_done = False

    def __call__(self, phase: str, done: int, total: int | None) -> None:
        if phase == self._phase and not self.is_done:
            self.is_done = True
            self._do()


@pytest.mark.parametrize("phase", ["records", "block copies"])
async def test_metadata_server_lost_for_good(
    phase: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with volume() as scene:
        await scene.rig.chunks[0].store.delete(scene.blocks())
        lost = At(phase, scene.rig.kill_meta)
        with pytest.raises(Disconnected) as caught:
            await scene.check(progress=lost)
        assert lost.is_done
        assert str(caught.value).startswith("the metadata server was lost in the check: ")
        assert META in str(caught.value)


@pytest.mark.parametrize("phase", ["records", "block copies", "every byte"])
async def test_metadata_server_starts_again(
    phase: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with volume() as scene:
        again = At(phase, lambda: _restart_meta(scene))
        report = await scene.check(verify_data=True, progress=again)
        assert again.is_done
        assert report.problems == []
        assert report.inodes == len(INODES)
        assert report.verified_copies == 2 * LARGE_BLOCKS


def _restart_meta(scene: Scene) -> None:
    async def restart() -> None:
        await trio.sleep(3)
        await scene.restart_meta()

    scene.rig.kill_meta()
    scene.rig.nursery.start_soon(restart)


@pytest.mark.parametrize("phase", ["block copies", "every byte"])
async def test_chunk_server_lost_in_the_middle(
    phase: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with volume() as scene:
        holder = scene.holders(scene.blocks()[0])[0]
        for chunk in scene.rig.chunks:
            # The victim still has to answer when the others have.
            chunk.delay_s = 1.0 if chunk is holder else 0.1
        lost = At(phase, holder.kill)
        report = await scene.check(verify_data=True, progress=lost)
        assert lost.is_done
        assert report.is_clean
        assert [line.split(": ")[0] for line in report.unreachable] == [
            f"{holder.server_id} at {holder.address}"
        ]
        assert "readable copies on the servers that answer" in said(report)[0]


@pytest.mark.parametrize("phase", ["block copies", "every byte"])
async def test_chunk_server_starts_again(
    phase: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with volume() as scene:
        holder = scene.holders(scene.blocks()[0])[0]
        for chunk in scene.rig.chunks:
            chunk.delay_s = 1.0 if chunk is holder else 0.1

        async def restart() -> None:
            await trio.sleep(3)
            await holder.start()

        def kill() -> None:
            holder.kill()
            scene.rig.nursery.start_soon(restart)

        report = await scene.check(verify_data=True, progress=At(phase, kill))
        assert (report.problems, report.unreachable) == ([], [])
        assert report.verified_copies == 2 * LARGE_BLOCKS


async def test_silent_chunk_server(autojump_clock: trio.testing.MockClock) -> None:
    async with volume() as scene:
        scene.rig.chunks[1].delay_s = float("inf")
        with trio.fail_after(60):
            report = await scene.check()
        assert "did not answer GetChunkStatus" in report.unreachable[0]
        assert report.is_clean


# ---------------------------------------------------------------- a cluster in use


async def test_removed_and_collected_after_the_census(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with volume(garbage_grace_s=0.0) as scene, scene.rig.client() as client:
        async with open_metadata(scene.environment, [META]) as metadata:
            moment = await take_census(metadata, ignore_progress)
            await Files(client, ROOT_USER).unlink(LARGE)
            await trio.sleep(30)
            assert not any(chunk.store._blocks for chunk in scene.rig.chunks)
            async with open_chunk_servers(scene.environment, await metadata.status()) as servers:
                copies = Copies(metadata, servers, moment.census, ignore_progress, verify_data=True)
                await copies.look()
                problems, report = Problems(), Report()
                await copies.report_to(problems)
                problems.write_to(report)
        assert report.problems == []
        assert copies.presence.good == {}


async def test_a_copy_that_moves_between_two_answers(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Asked first, its new server did not have it yet; asked last, its old one no longer does."""
    async with volume(copies=1, chunk_count=2) as scene:
        block_id = scene.blocks()[0]
        [old], [new] = scene.holders(block_id), scene.others(block_id)
        old.delay_s = 2.0

        def move() -> None:
            new.store._blocks[block_id] = old.store._blocks.pop(block_id)

        moving = At("block copies", move)
        report = await scene.check(progress=moving)
        assert moving.is_done
        assert report.problems == []
        assert report.copies == LARGE_BLOCKS


async def _work(client: Client, seed: int) -> None:
    """Write, overwrite, rename and remove, until cancelled."""
    chooser = random.Random(seed)
    files = Files(client, ROOT_USER)
    top = f"/worker{seed}"
    await files.mkdir(top)
    while True:
        name, other = (f"{top}/{chooser.randrange(4)}" for _ in range(2))
        # Few different blocks, so that they are dropped and named again.
        await files.write_bytes(name, pattern(BLOCK * 2, seed=chooser.randrange(3)))
        await trio.sleep(chooser.random())
        if chooser.random() < 0.5:
            await files.rename(name, other)
        else:
            await files.unlink(name)


async def test_no_false_alarm_while_clients_write(autojump_clock: trio.testing.MockClock) -> None:
    async with volume(garbage_grace_s=0.0) as scene:
        for chunk, delay_s in zip(scene.rig.chunks, (0.01, 0.2, 0.5), strict=True):
            chunk.delay_s = delay_s
        async with (
            scene.rig.client() as first,
            scene.rig.client() as second,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(_work, first, 1)
            nursery.start_soon(_work, second, 2)
            block_counts = set()
            for _ in range(20):
                await trio.sleep(1.3)
                report = await scene.check(verify_data=True)
                assert report.problems == []
                assert report.repaired == []
                block_counts.add(report.blocks)
            assert len(block_counts) > 1, "nothing changed: nothing was tested"
            nursery.cancel_scope.cancel()


async def test_repair_while_clients_write(autojump_clock: trio.testing.MockClock) -> None:
    """What they change meanwhile is theirs; what is wrong gets right."""
    async with volume(garbage_grace_s=0.0) as scene:
        key = keys.inode_key(scene.ino[LARGE])
        inode = scene.record(key, Inode)
        await scene.damage({key: msgspec.structs.replace(inode, nlink=9)})
        await scene.rig.chunks[0].store.delete(scene.blocks())
        async with scene.rig.client() as client, trio.open_nursery() as nursery:
            nursery.start_soon(_work, client, 1)
            await trio.sleep(5)
            report = await scene.check(repair=True, verify_data=True)
            assert report.problems == []
            assert report.repaired
            nursery.cancel_scope.cancel()
        assert scene.record(key, Inode) == inode
        assert (await scene.check(verify_data=True)).problems == []
