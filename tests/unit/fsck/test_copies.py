"""Goal: lost, missing and wrong copies are told apart, and mended from a good one (I1, I2).

Method: blocks are taken from chunk servers, damaged, or out of reach; the records are sound.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from dfs.client.files import Files
from dfs.core.namespace import keys
from dfs.core.namespace.records import BlockRef
from tests.unit.client.rig import BLOCK, ROOT_USER, pattern
from tests.unit.fsck.rig import LARGE, LARGE_BLOCKS, Scene, said, volume

if TYPE_CHECKING:
    from dfs.types import BlockId

pytestmark = pytest.mark.expects_warnings  # servers are killed, copies are found bad


async def _take_from(scene: Scene, block_id: BlockId, count: int) -> None:
    """`count` of the servers that hold the block lose it."""
    for chunk in scene.holders(block_id)[:count]:
        await chunk.store.delete([block_id])


async def _assert_readable(scene: Scene) -> None:
    async with scene.rig.client() as client:
        content = await Files(client, ROOT_USER).read_bytes(LARGE)
        assert content == pattern(LARGE_BLOCKS * BLOCK)


async def test_one_copy_is_a_warning_and_mended(autojump_clock: trio.testing.MockClock) -> None:
    async with volume() as scene:
        block_id = scene.blocks()[1]
        await _take_from(scene, block_id, 1)
        report = await scene.check()
        assert report.is_clean
        assert said(report) == [
            "warning: /dir/large, for example: 1 blocks have fewer than 2 readable copies "
            "(I1 block copies)"
        ]
        assert report.copies == 2 * LARGE_BLOCKS - 1
        repaired = await scene.check(repair=True)
        assert repaired.problems == []
        assert [line.split(" to ")[0] for line in repaired.repaired] == [
            f"copied block {block_id.hex()}"
        ]
        assert len(scene.holders(block_id)) == 2
        assert repaired.copies == 2 * LARGE_BLOCKS
        assert (await scene.check(repair=True)).repaired == []


async def test_no_copy_is_an_error_that_names_the_files(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with volume() as scene:
        async with scene.rig.client() as client:
            files = Files(client, ROOT_USER)
            await files.write_bytes("/twin", pattern(LARGE_BLOCKS * BLOCK))
        block_id = scene.blocks()[2]
        assert scene.record(keys.block_key(block_id), BlockRef).count == 2
        await _take_from(scene, block_id, 2)
        for is_repairing in (False, True):
            report = await scene.check(repair=is_repairing)
            assert not report.is_clean
            assert said(report) == [
                f"error: /dir/large, /twin: block {block_id.hex()} has no readable copy: "
                "its bytes are lost (I1 block presence)"
            ]
            assert report.repaired == []


async def test_names_that_are_no_text(autojump_clock: trio.testing.MockClock) -> None:
    async with volume() as scene:
        async with scene.rig.client() as client:
            await Files(client, ROOT_USER).write_bytes(b"/\xff\n", pattern(BLOCK, seed=5))
            inode = await Files(client, ROOT_USER).stat(b"/\xff\n")
        scene.ino = {**scene.ino, "odd": inode.ino}
        await _take_from(scene, scene.blocks("odd")[0], 2)
        [line] = said(await scene.check())
        assert line.startswith("error: /\\xff\\n: block ")


@pytest.mark.parametrize("is_known", [False, True])
async def test_a_wrong_copy_is_found_and_replaced(
    is_known: bool, autojump_clock: trio.testing.MockClock
) -> None:
    """Known: a reader found it before; then the server no longer counts it as had."""
    async with volume() as scene:
        block_id = scene.blocks()[0]
        damaged = scene.holders(block_id)[0]
        damaged.store.damage(block_id, 9)
        if is_known:
            assert await damaged.store.verify([block_id]) == ["corrupt"]
        assert (await scene.check()).is_clean
        report = await scene.check(verify_data=True)
        assert not report.is_clean
        assert f"error: /dir/large: block {block_id.hex()}: the copy on" in said(report)[0]
        assert (
            f"{damaged.server_id} at {damaged.address} has wrong bytes; good copies: 1 (I2"
            in (said(report)[0])
        )
        assert report.verified_copies == 2 * LARGE_BLOCKS - 1
        repaired = await scene.check(verify_data=True, repair=True)
        assert repaired.problems == []
        assert repaired.verified_copies == 2 * LARGE_BLOCKS
        assert await damaged.store.verify([block_id]) == ["good"]
        assert len(scene.holders(block_id)) == 2
        await _assert_readable(scene)


async def test_all_copies_wrong(autojump_clock: trio.testing.MockClock) -> None:
    async with volume() as scene:
        block_id = scene.blocks()[0]
        for chunk in scene.holders(block_id):
            chunk.store.damage(block_id, 9)
        report = await scene.check(verify_data=True, repair=True)
        assert [problem.check for problem in report.problems] == [
            "I1 block presence",
            "I2 verified bytes",
            "I2 verified bytes",
        ]
        assert all("good copies: 0" in problem.message for problem in report.problems[1:])
        assert report.repaired == []


async def test_blocks_that_nobody_names_are_no_error(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """An upload whose commit never came, damaged."""
    async with volume() as scene:
        async with scene.rig.client() as client:
            files = Files(client, ROOT_USER)
            await files.write_bytes("/gone", pattern(BLOCK, seed=3))
            scene.ino = {**scene.ino, "gone": (await files.stat("/gone")).ino}
            block_id = scene.blocks("gone")[0]
            await files.unlink("/gone")
        for chunk in scene.holders(block_id):
            chunk.store.damage(block_id, 9)
        report = await scene.check(verify_data=True)
        assert report.problems == []
        assert report.verified_copies == 2 * LARGE_BLOCKS


async def test_a_server_out_of_reach(autojump_clock: trio.testing.MockClock) -> None:
    async with volume() as scene:
        block_id = scene.blocks()[0]
        holder, other = scene.holders(block_id)
        holder.kill()
        report = await scene.check()
        assert report.is_clean
        [server] = report.unreachable
        assert server == (
            f"{holder.server_id} at {holder.address}: "
            f"cannot reach {holder.address}: Connection refused"
        )
        [problem] = report.problems
        assert problem.message.endswith("2 readable copies on the servers that answer")
        await other.store.delete([block_id])
        report = await scene.check()
        assert not report.is_clean
        [error] = report.errors
        assert error.message == (
            f"block {block_id.hex()} has no readable copy on the servers that answer; "
            "1 cannot be asked and may have one"
        )


async def test_another_server_at_an_address_does_not_count(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Else one copy would be counted as two."""
    async with volume(chunk_count=2) as scene:
        first, second = scene.rig.chunks
        second.kill()
        listeners = scene.rig.network.listeners
        while second.address in listeners:
            await trio.lowlevel.checkpoint()
        listeners[second.address] = listeners[first.address]
        report = await scene.check()
        assert "another chunk server, " in report.unreachable[0]
        assert report.copies == LARGE_BLOCKS


async def test_copies_that_cannot_be_made(autojump_clock: trio.testing.MockClock) -> None:
    """The only other server is full."""
    async with volume(chunk_count=2) as scene:
        block_id = scene.blocks()[0]
        full = scene.holders(block_id)[0]
        await full.store.delete([block_id])
        full.store._capacity_bytes = BLOCK
        report = await scene.check(repair=True)
        assert report.is_clean
        assert report.repaired == []
        assert report.problems[-1].check == "repair"
        assert f"cannot copy block {block_id.hex()} to {full.server_id}" in (
            report.problems[-1].message
        )


async def test_a_source_that_proves_bad(autojump_clock: trio.testing.MockClock) -> None:
    """Without reading every byte, the first source looks good; the second one is."""
    async with volume(copies=3, chunk_count=4) as scene:
        block_id = scene.blocks()[0]
        holders = sorted(scene.holders(block_id), key=lambda chunk: chunk.server_id)
        assert len(holders) == 3
        holders[0].store.damage(block_id, 9)
        await holders[2].store.delete([block_id])
        report = await scene.check(repair=True)
        assert report.is_clean
        assert report.repaired
        again = await scene.check(repair=True, verify_data=True)
        assert again.problems == []
        assert await holders[0].store.verify([block_id]) == ["good"]


async def test_damaged_counts_hide_no_loss(autojump_clock: trio.testing.MockClock) -> None:
    """A block whose count says that nobody names it, though an extent does, and that is gone."""
    async with volume() as scene:
        block_id = scene.blocks()[0]
        key = keys.block_key(block_id)
        for value in (None, b"\x01nonsense", BlockRef(count=0, length=BLOCK)):
            await scene.damage({key: value})
            await _take_from(scene, block_id, 2)
            lines = said(await scene.check())
            assert any("has no readable copy: its bytes are lost" in line for line in lines)
            assert any(line.startswith("error: /dir/large") for line in lines)


async def test_more_files_than_are_listed(autojump_clock: trio.testing.MockClock) -> None:
    async with volume() as scene:
        async with scene.rig.client() as client:
            files = Files(client, ROOT_USER)
            for number in range(15):
                await files.write_bytes(f"/copy{number:02}", pattern(LARGE_BLOCKS * BLOCK))
        await _take_from(scene, scene.blocks()[0], 2)
        [problem] = (await scene.check()).problems
        assert problem.subject.startswith("/dir/large, /copy00, ")
        assert problem.subject.endswith(" and 6 more files")
        assert os.linesep not in problem.subject
