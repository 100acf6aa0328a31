"""Goal: a step does all of what it took or none, in order, and deletes go through when puts find no
space (I3). Method: steps by hand, over a disk in memory that fails."""

from __future__ import annotations

import errno

import pytest

from dfs.chunk.block_reader import prepare_put
from dfs.chunk.identity import Identity
from dfs.chunk.index import BlockIndex
from dfs.chunk.segment_log import SegmentLog, list_segments, segment_name
from dfs.chunk.segment_writer import (
    Delete,
    KeepTombstone,
    MarkBad,
    Mutation,
    Put,
    RetireSegment,
    SealSegment,
    SegmentWriter,
)
from dfs.core.segments import SEGMENT_HEADER_BYTES, Tombstone
from dfs.engine.memory_engine import MemoryEngine
from dfs.errors import DfsError, NoSpace
from dfs.limits import INDEX_CHECKPOINT_RECORDS, KIB
from dfs.types import BlockId
from tests.unit.chunk.memory_disk import MemoryDisk
from tests.unit.chunk.rig import Block, inline_environment


class Bench:
    """A writer with all that it changes."""

    def __init__(self, *, segment_bytes: int = 64 * KIB, disk_bytes: int = 1 << 30) -> None:
        self.disk = MemoryDisk(capacity_bytes=disk_bytes)
        identity = Identity.open(self.disk, inline_environment().random, "data")
        self.engine = MemoryEngine()
        self.index = BlockIndex(self.engine, identity.server_id)
        self.index.clear()
        self.log = SegmentLog(self.disk, identity, segment_bytes_max=segment_bytes)
        self.writer = SegmentWriter(self.disk, self.log, self.index)

    def do(self, *mutations: Mutation) -> None:
        left = list(mutations)
        while left:
            step = self.writer.step(left)
            assert step.error is None, step.error
            del left[: step.count]

    def has(self, block: Block) -> bool:
        [location] = self.index.get([block.block_id])
        return location is not None and not location.is_bad

    def size(self) -> int:
        return self.disk.size(segment_name(self.log.number))


def put(block: Block) -> Put:
    prepared = prepare_put(block.header, block.stored)
    return Put(block.block_id, prepared.encoded_header, block.stored, prepared.checksum)


def test_mutations_of_one_block_take_effect_in_order() -> None:
    for last in (True, False):
        bench = Bench()
        block = Block(1)
        mutations: list[Mutation] = [put(block), Delete(block.block_id)] * 3
        bench.do(*mutations, *([put(block)] if last else []))
        assert bench.has(block) == last
        assert bench.index.block_count == int(last)
        # Delete and put again write records each time: 3 of both, and the last put.
        assert bench.index.usages[0].live_bytes == (put(block).size if last else 0)


def test_what_changes_nothing_writes_nothing() -> None:
    bench = Bench()
    block = Block(1)
    bench.do(put(block))
    size, syncs = bench.size(), bench.disk.sync_count
    bench.do(put(block), Delete(Block(2).block_id), put(block))
    bench.do(KeepTombstone(Tombstone(block.block_id, 99, 72)))
    assert (bench.size(), bench.disk.sync_count) == (size, syncs)


def test_a_step_ends_with_its_segment() -> None:
    bench = Bench(segment_bytes=10 * KIB)
    blocks = [Block(number) for number in range(5)]
    mutations = [put(block) for block in blocks]
    assert bench.writer.step(mutations).count == 3
    assert bench.writer.step(mutations[3:]).count == 2
    assert list_segments(bench.disk) == [1, 2]
    assert [usage.end_bytes for usage in bench.index.usages] == [
        SEGMENT_HEADER_BYTES + 3 * mutations[0].size,
        SEGMENT_HEADER_BYTES + 2 * mutations[0].size,
    ]


@pytest.mark.expects_warnings
def test_nothing_counts_when_the_sync_fails() -> None:
    bench = Bench()
    first, second, third = (Block(number) for number in range(3))
    bench.do(put(first))
    bench.disk.fail("sync", errno.EIO)
    step = bench.writer.step([put(second), Delete(first.block_id), put(third)])
    assert step.count == 3
    assert isinstance(step.error, DfsError)
    assert [bench.has(block) for block in (first, second, third)] == [True, False, False]
    bench.do(put(second))
    assert list_segments(bench.disk) == [1, 2]
    assert bench.disk.size(segment_name(1)) == SEGMENT_HEADER_BYTES + put(first).size


def test_without_space_puts_fail_and_deletes_go_through() -> None:
    bench = Bench()
    old, new, more = (Block(number) for number in range(3))
    bench.do(put(old))
    bench.disk.capacity_bytes = 3 * KIB + 1024
    queue: list[Mutation] = [put(new), put(more), Delete(old.block_id), put(new)]
    step = bench.writer.step(queue)
    assert step.count == 2
    assert isinstance(step.error, NoSpace)
    step = bench.writer.step(queue[2:])
    assert (step.count, step.error) == (1, None)
    assert not bench.has(old)
    assert isinstance(bench.writer.step(queue[3:]).error, NoSpace)


def test_without_any_space_deletes_fail_too_and_change_nothing() -> None:
    bench = Bench()
    old = Block(1)
    bench.do(put(old))
    size = bench.size()
    bench.disk.fail("write_at", errno.ENOSPC, times=2)
    step = bench.writer.step([Delete(old.block_id)])
    assert isinstance(step.error, NoSpace)
    assert bench.has(old)
    assert bench.size() == size


def test_a_copy_is_void_when_the_block_moved_or_went() -> None:
    bench = Bench(segment_bytes=10 * KIB)
    block = Block(1)
    bench.do(put(block))
    [location] = bench.index.get([block.block_id])
    assert location is not None
    original = put(block)
    copy = Put(
        block.block_id, original.encoded_header, block.stored, original.checksum, source=location
    )
    bench.do(copy)
    [moved] = bench.index.get([block.block_id])
    assert moved is not None
    assert moved.offset > location.offset
    size = bench.size()
    bench.do(copy)
    assert bench.size() == size
    bench.do(Delete(block.block_id), copy)
    assert not bench.has(block)
    bench.do(put(block), MarkBad(block.block_id, location))
    assert bench.has(block)


def test_segments_are_sealed_and_retired() -> None:
    bench = Bench()
    block = Block(1)
    bench.do(put(block), SealSegment(1), SealSegment(1))
    assert list_segments(bench.disk) == [1, 2]
    bench.do(Delete(block.block_id), RetireSegment(1))
    assert list_segments(bench.disk) == [2]
    assert [usage.number for usage in bench.index.usages] == [2]
    assert bench.index.usages[0].tombstone_bytes == {}


def test_a_checkpoint_is_written_when_many_changes_gathered() -> None:
    bench = Bench(segment_bytes=1 << 26)
    blocks = [Block(number, size=1) for number in range(300)]
    bench.do(*(put(block) for block in blocks))
    names = [BlockId(number.to_bytes(32, "big")) for number in range(INDEX_CHECKPOINT_RECORDS)]
    for name in names:
        bench.index.remove(name)
    assert bench.index.recent_count > INDEX_CHECKPOINT_RECORDS
    bench.do(put(Block(999)))
    assert bench.index.recent_count < 10


def test_when_no_checkpoint_can_be_written_nothing_more_is_taken_on() -> None:
    bench = Bench()
    for number in range(2 * INDEX_CHECKPOINT_RECORDS):
        bench.index.remove(BlockId(number.to_bytes(32, "big")))

    def full() -> None:
        raise NoSpace("the index is full")

    bench.engine.storage.before_sync = full
    for mutation in (put(Block(1)), Delete(Block(1).block_id)):
        step = bench.writer.step([mutation])
        assert isinstance(step.error, NoSpace)
        bench.engine.storage.power_cut()
        bench.engine._power_cut_count = bench.engine.storage.power_cut_count


@pytest.mark.parametrize("operation", ["write_at", "sync", "sync_directory"])
def test_a_segment_that_cannot_be_made_leaves_nothing(operation: str) -> None:
    bench = Bench()
    bench.disk.fail(operation, errno.ENOSPC)
    step = bench.writer.step([put(Block(1))])
    assert isinstance(step.error, NoSpace)
    assert list_segments(bench.disk) == []
    bench.do(put(Block(1)))
    assert list_segments(bench.disk) == [1]
