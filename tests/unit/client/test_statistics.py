"""Goal: a client's statistics say what it did. Method: do known things in a cluster in memory, on
the virtual clock.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec
import pytest
import trio

from dfs.client.statistics import CallFigures, ClientStatistics, call_figures
from dfs.errors import FsError
from dfs.rpc.call_counts import CallCounts
from dfs.types import ROOT
from tests.unit.client.rig import BLOCK, ROOT_USER, cluster

if TYPE_CHECKING:
    import trio.testing


async def test_answers_are_hits_or_misses(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster() as rig, rig.client() as client:
        before = client.statistics().answers
        assert before.lookup_hit_count == before.lookup_miss_count == 0
        for _ in range(3):
            with pytest.raises(FsError):
                await client.lookup(ROOT, b"absent")
            await client.getattr(ROOT)
        after = client.statistics().answers
        assert (after.lookup_hit_count, after.lookup_miss_count) == (2, 1)
        assert after.getattr_hit_count + after.getattr_miss_count == 3
        assert after.getattr_miss_count == client.meta.calls_sent["GetAttr"]
        assert before.lookup_miss_count == 0, "an answer of its own, not the counter itself"


async def test_ops_and_leases(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster() as rig, rig.client() as client:
        first = await client.mkdir(ROOT, b"asked", 0o755, ROOT_USER)
        asked = client.statistics().ops
        assert (asked.asked_count, asked.done_here_count, asked.unanswered_count) == (1, 0, 0)
        for number in range(5):
            await client.mkdir(first.ino, b"%d" % number, 0o755, ROOT_USER)
        done = client.statistics()
        assert (done.ops.done_here_count, done.ops.asked_count) == (5, 1)
        assert done.ops.unanswered_count == done.ops.owed_count == 5
        assert done.leases.exclusive_count >= 6
        assert done.leases.inode_count >= done.leases.exclusive_count
        assert done.leases.name_count >= 5
        await client.sync()
        assert client.statistics().ops.owed_count == 0


async def test_promised_and_dirty_data_and_its_commit(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with cluster() as rig, rig.client() as client:
        directory = await client.mkdir(ROOT, b"d", 0o755, ROOT_USER)
        handle, _ = await client.create(directory.ino, b"f", 0o644, ROOT_USER)
        await client.write(handle, 0, os.urandom(5000))
        await client.flush(handle)
        closed = client.statistics()
        assert closed.promised_count == 1
        assert closed.dirty_bytes == client.dirty_bytes > 0
        await client.fsync(handle)
        synced = client.statistics()
        assert (synced.promised_count, synced.dirty_bytes, synced.ops.commit_count) == (0, 0, 1)


async def test_frames_and_calls(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster() as rig:
        async with rig.client() as client:
            handle, _ = await client.create(ROOT, b"f", 0o644, ROOT_USER)
            await client.write(handle, 0, bytes(BLOCK - 1) + b"x")
            await client.fsync(handle)
            assert client.statistics().chunk_calls["PutBlock"].answered_count == 2
        async with rig.client() as client:
            inode = await client.lookup(ROOT, b"f")
            handle = await client.open(inode.ino, os.O_RDONLY, ROOT_USER)
            for _ in range(3):
                await client.read(handle, 0, 100)
            found = client.statistics()
            assert (found.block_cache.hit_count, found.block_cache.miss_count) == (2, 1)
            assert found.block_cache.byte_count >= BLOCK
            assert found.chunk_calls["GetBlock"].sent_count == 1
            assert found.meta_calls["Lookup"] == CallFigures(1, 1, 0.0)


def test_calls_that_broke_were_sent_and_not_answered() -> None:
    counts = CallCounts()
    counts.sent["Open"] += 2
    counts.note_answer("Open", 0.5)
    counts.sent["GetAttr"] += 1
    assert call_figures(counts) == {
        "GetAttr": CallFigures(1, 0, 0.0),
        "Open": CallFigures(2, 1, 0.5),
    }


def test_what_an_older_client_did_not_tell_is_nothing() -> None:
    found = msgspec.json.decode(b'{"dirty_bytes": 7, "of_the_future": 1}', type=ClientStatistics)
    assert found == ClientStatistics(dirty_bytes=7)
