"""Goal: what may still be stored is never promised twice, and the reserve and the capacity hold."""

from __future__ import annotations

import errno

import pytest

from dfs.chunk.index import BlockIndex
from dfs.chunk.space import SpaceAccount
from dfs.engine.memory_engine import MemoryEngine
from dfs.limits import MIB
from dfs.types import ServerId, SpaceUsage
from tests.unit.chunk.memory_disk import MemoryDisk


def account(
    *, disk_bytes: int = 100 * MIB, capacity_bytes: int | None = None, reserve_bytes: int = 10 * MIB
) -> tuple[SpaceAccount, MemoryDisk, BlockIndex]:
    disk = MemoryDisk(capacity_bytes=disk_bytes)
    index = BlockIndex(MemoryEngine(), ServerId("0123456789abcdef"))
    index.clear()
    space = SpaceAccount(disk, index, capacity_bytes=capacity_bytes, reserve_bytes=reserve_bytes)
    space.refresh()
    return space, disk, index


def test_the_disk_less_the_reserve() -> None:
    space, disk, _ = account()
    assert space.usage == SpaceUsage(capacity_bytes=90 * MIB, used_bytes=0, free_bytes=90 * MIB)
    disk.write_at("else", 0, [bytes(95 * MIB)])
    space.refresh()
    assert space.usage.free_bytes == 0
    assert space.copyable_bytes == 5 * MIB


def test_the_capacity_that_was_asked_for() -> None:
    space, _, index = account(capacity_bytes=20 * MIB)
    assert space.usage.capacity_bytes == space.usage.free_bytes == 20 * MIB
    index.begin_segment(1)
    index.advance(1, 15 * MIB)
    space.refresh()
    assert space.usage == SpaceUsage(
        capacity_bytes=20 * MIB, used_bytes=15 * MIB, free_bytes=5 * MIB
    )
    index.advance(1, 25 * MIB)
    space.refresh()
    assert space.usage.free_bytes == 0


def test_a_capacity_larger_than_the_disk() -> None:
    space, _, _ = account(capacity_bytes=1000 * MIB)
    assert space.usage.capacity_bytes == space.usage.free_bytes == 90 * MIB


def test_promises_add_up() -> None:
    space, _, _ = account()
    assert space.promise(60 * MIB)
    assert not space.promise(31 * MIB)
    assert space.promise(30 * MIB)
    assert not space.promise(1)
    space.settle(60 * MIB)
    assert space.promise(60 * MIB)


def test_space_is_short_below_a_tenth() -> None:
    space, disk, _ = account()
    assert not space.is_short
    disk.write_at("else", 0, [bytes(82 * MIB)])
    space.refresh()
    assert space.is_short


def test_a_disk_that_does_not_tell() -> None:
    space, disk, _ = account()
    disk.fail("space", errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        space.refresh()
    assert space.usage.free_bytes == 90 * MIB
