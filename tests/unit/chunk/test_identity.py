"""Goal: a server keeps its name and its cluster for life, whatever befalls the file."""

from __future__ import annotations

import random

import pytest

from dfs.chunk.identity import Identity
from dfs.errors import FormatTooNew, UserError, WrongCluster
from dfs.types import ClusterId
from tests.unit.chunk.memory_disk import MemoryDisk
from tests.unit.chunk.rig import Block, Rig

CLUSTER = ClusterId("0123456789abcdef0123456789abcdef")


def opened(disk: MemoryDisk, seed: int = 1) -> Identity:
    return Identity.open(disk, random.Random(seed), "/data")


def next_life(disk: MemoryDisk) -> MemoryDisk:
    disk.close()
    return disk.power_cut()


def test_a_new_directory_gets_an_id_for_good() -> None:
    disk = MemoryDisk()
    identity = opened(disk)
    assert len(identity.server_id) == 16
    assert int(identity.server_id, 16) >= 0
    assert identity.cluster_id == ""
    disk = next_life(disk)
    assert opened(disk, seed=2).server_id == identity.server_id


def test_golden_file() -> None:
    disk = MemoryDisk()
    identity = opened(disk)
    identity.join(CLUSTER)
    assert disk.read_at("server.json", 0, 999).decode() == (
        '{\n  "format_version": 1,\n  "server_id": "' + identity.server_id + '",\n'
        '  "cluster_id": "' + CLUSTER + '"\n}\n'
    )


def test_joining_is_durable_and_final() -> None:
    disk = MemoryDisk()
    opened(disk).join(CLUSTER)
    disk = next_life(disk)
    identity = opened(disk)
    assert identity.cluster_id == CLUSTER
    identity.join(CLUSTER)
    with pytest.raises(WrongCluster, match=f"belongs to cluster {CLUSTER}.*to cafe"):
        identity.join(ClusterId("cafe"))
    with pytest.raises(WrongCluster):
        opened(MemoryDisk()).join(ClusterId("x" * 33))


def test_joining_survives_a_crash_at_every_operation() -> None:
    for dies_at in range(1, 40):
        disk = MemoryDisk()
        identity = opened(disk)
        disk.dies_at = disk.operation_count + dies_at
        is_joined = False
        try:
            identity.join(CLUSTER)
            is_joined = True
        except OSError:
            pass
        for is_unsynced_kept in (True, False):
            disk.close()
            after = opened(disk.power_cut(is_unsynced_kept=is_unsynced_kept))
            assert after.server_id == identity.server_id
            assert after.cluster_id in ("", CLUSTER)
            assert after.cluster_id == CLUSTER or not is_joined


def test_two_servers_on_one_directory() -> None:
    disk = MemoryDisk()
    opened(disk)
    with pytest.raises(UserError, match="/data: another chunk server is using this directory"):
        opened(disk.process_killed())


def test_a_newer_directory() -> None:
    disk = MemoryDisk()
    text = b'{"format_version": 2, "server_id": "0123456789abcdef", "new": 1}'
    disk.write_at("server.json", 0, [text])
    with pytest.raises(FormatTooNew, match="data format 2 was written by a newer dfs"):
        opened(disk)


@pytest.mark.expects_warnings
async def test_a_lost_or_damaged_file_is_made_again_from_a_segment() -> None:
    for text in (None, b"", b"{", b"\xff" * 50, b'{"format_version": 1, "server_id": "short"}'):
        rig = Rig()
        async with rig.store() as store:
            rig.identity.join(CLUSTER)
            await store.put(Block(1).header, Block(1).stored)
        rig.disk.remove("server.json")
        if text is not None:
            rig.disk.write_at("server.json", 0, [text])
        rig.environment.random.seed(99)
        async with rig.store() as store:
            assert await store.has([Block(1).block_id]) == [True]
        assert rig.identity.cluster_id == CLUSTER
