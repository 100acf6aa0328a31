"""Goal: a lost count is made again only from a copy that can be trusted (I6).

Method: the count of a block is deleted under the metadata server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dfs.client.files import Files
from dfs.core.namespace import keys
from dfs.core.namespace.records import BlockRef
from tests.unit.client.rig import BLOCK, ROOT_USER
from tests.unit.fsck.rig import LARGE, said, volume

if TYPE_CHECKING:
    import trio.testing

pytestmark = pytest.mark.expects_warnings  # servers are killed, copies are found bad


async def test_it_has_its_old_count(autojump_clock: trio.testing.MockClock) -> None:
    async with volume() as scene:
        key = keys.block_key(scene.blocks()[0])
        before = scene.record(key, BlockRef)
        await scene.damage({key: None})
        # One copy lies: the other one says how long the block is.
        first = min(scene.holders(scene.blocks()[0]), key=lambda chunk: chunk.server_id)
        first.store.damage(scene.blocks()[0], 9)
        report = await scene.check(repair=True)
        assert report.problems == []
        assert scene.record(key, BlockRef) == before == BlockRef(count=1, length=BLOCK)
        async with scene.rig.client() as client:
            await Files(client, ROOT_USER).unlink(LARGE)


async def test_without_a_good_copy_it_stays_an_error(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with volume() as scene:
        block_id = scene.blocks()[0]
        await scene.damage({keys.block_key(block_id): None})
        for chunk in scene.holders(block_id):
            await chunk.store.delete([block_id])
        report = await scene.check(repair=True)
        assert report.repaired == []
        assert any("but has no count (I6 reference counts)" in line for line in said(report))
        assert any("its bytes are lost" in line for line in said(report))
