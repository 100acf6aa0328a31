"""Goal: fsck says the truth of a cluster in use. Method: real servers in one process."""

from __future__ import annotations

import msgspec
import trio.testing

from dfs.fsck.report import Report
from tests.unit.fsck.rig import INODES, LARGE_BLOCKS, volume


async def test_a_sound_cluster_is_clean(autojump_clock: trio.testing.MockClock) -> None:
    async with volume() as scene:
        report = await scene.check(verify_data=True)
        assert report.is_clean
        assert report.problems == []
        assert report.repaired == []
        assert report.inodes == len(INODES)
        assert report.directories == 3
        assert report.extents == LARGE_BLOCKS + 1
        assert report.blocks == LARGE_BLOCKS
        assert report.copies == report.verified_copies == 2 * LARGE_BLOCKS
        assert report.unreachable == []
        assert len(report.cluster_id) == 32
        assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report
