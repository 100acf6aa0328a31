"""Goal: the index answers as a plain dictionary would, before and after checkpoints, and its
accounts stay exact. Method: random changes beside a model, over several lives."""

from __future__ import annotations

import random

import pytest

from dfs.chunk.index import RECENT_RECORDS_MAX, BlockIndex, BlockLocation
from dfs.core.segments import SEGMENT_HEADER_BYTES
from dfs.engine.api import EngineDamaged
from dfs.engine.memory_engine import MemoryEngine
from dfs.errors import WrongCluster
from dfs.types import BlockId, ServerId

SERVER = ServerId("00112233445566aa")


def block_id(number: int) -> BlockId:
    return BlockId(number.to_bytes(4, "big") * 8)


def at(segment: int, offset: int, payload_bytes: int = 100) -> BlockLocation:
    return BlockLocation(segment, offset, header_bytes=60, payload_bytes=payload_bytes)


def new_index(engine: MemoryEngine | None = None) -> BlockIndex:
    index = BlockIndex(engine or MemoryEngine(), SERVER)
    if not index.load():
        index.clear()
    return index


def test_golden_rows() -> None:
    engine = MemoryEngine()
    index = new_index(engine)
    index.begin_segment(1)
    index.advance(1, 272)
    index.place(block_id(1), at(1, 72))
    index.checkpoint()
    rows = {key.hex(): value.hex() for key, value in engine.scan(b"\0", b"\xff", 10)}
    assert rows == {
        "62" + "00000001" * 8: "01" + "95014" + "83c64c2",
        "63": "01" + "92b0" + SERVER.encode().hex() + "01",
        "73" + "0000000000000001": "01" + "9501cd0110ccc880c2",
    }


def test_it_agrees_with_a_dictionary() -> None:
    chooser = random.Random(3)
    engine = MemoryEngine()
    index = new_index(engine)
    model: dict[BlockId, BlockLocation] = {}
    bad: dict[BlockId, None] = {}
    end = SEGMENT_HEADER_BYTES
    index.begin_segment(1)
    for _ in range(2000):
        name = block_id(chooser.randrange(60))
        action = chooser.randrange(10)
        if action < 4:
            location = at(1, end, chooser.randrange(1, 500))
            end = location.end
            index.advance(1, end)
            index.place(name, location)
            model[name] = location
            bad.pop(name, None)
        elif action < 6:
            index.remove(name)
            model.pop(name, None)
            bad.pop(name, None)
        elif action < 7 and name in model:
            assert index.mark_bad(name, model[name]) == (name not in bad)
            bad[name] = None
        elif action < 8:
            index.checkpoint()
            assert index.recent_count == 0
        elif action < 9:
            index.checkpoint()
            index = new_index(engine)
        assert_same(index, model, bad, chooser)


def assert_same(
    index: BlockIndex,
    model: dict[BlockId, BlockLocation],
    bad: dict[BlockId, None],
    chooser: random.Random,
) -> None:
    names = [block_id(number) for number in range(60)]
    for name, location in zip(names, index.get(names), strict=True):
        assert (location is not None) == (name in model)
        if location is not None:
            assert location.is_same_place(model[name])
            assert location.is_bad == (name in bad)
    had = sorted(name for name in model if name not in bad)
    assert index.block_count == len(had)
    limit = chooser.randrange(1, 80)
    after = block_id(chooser.randrange(60))
    expected = [name for name in had if name > after]
    page, is_last = index.page_of_had(after, limit)
    assert page == expected[:limit]
    assert not is_last or len(expected) <= limit
    [usage] = index.usages
    assert usage.live_bytes == sum(model[name].record_bytes for name in had)


def test_pages_skip_stretches_that_were_deleted() -> None:
    index = new_index()
    index.begin_segment(1)
    for number in range(50):
        index.place(block_id(number), at(1, 72 + 200 * number))
    index.advance(1, 20_000)
    index.checkpoint()
    for number in range(40):
        index.remove(block_id(number))
    page, is_last = index.page(BlockId(b""), 3)
    assert page[0] == (block_id(40), at(1, 72 + 200 * 40))
    assert not is_last
    expected = [block_id(40), block_id(41), block_id(42)]
    assert index.page_of_had(BlockId(b""), 3) == (expected, False)
    assert index.page_of_had(block_id(48), 3) == ([block_id(49)], True)


def test_tombstones_are_counted_while_they_are_needed() -> None:
    index = new_index()
    for number in (1, 2, 3):
        index.begin_segment(number)
        index.advance(number, 1000)
    index.count_tombstone(2, 1, 80)
    index.count_tombstone(3, 1, 80)
    index.count_tombstone(3, 2, 80)
    index.count_tombstone(3, 3, 80)  # dies with its own segment
    index.count_tombstone(3, 99, 80)  # nothing left to kill
    assert [usage.needed_bytes for usage in index.usages] == [0, 80, 160]
    assert index.is_tombstone_needed(1)
    index.retire_segment(1)
    assert not index.is_tombstone_needed(1)
    assert [usage.needed_bytes for usage in index.usages] == [0, 80]
    assert index.removed_segments == [1]


def test_a_retired_segment_is_remembered_until_its_file_is_gone() -> None:
    engine = MemoryEngine()
    index = new_index(engine)
    index.begin_segment(1)
    index.begin_segment(2)
    index.retire_segment(1)
    index.checkpoint()
    index = new_index(engine)
    assert index.removed_segments == [1]
    assert [usage.number for usage in index.usages] == [2]
    index.forget_segment(1)
    index.checkpoint()
    assert new_index(engine).removed_segments == []


def test_a_failed_checkpoint_forgets_nothing() -> None:
    engine = MemoryEngine()
    index = new_index(engine)
    index.begin_segment(1)
    index.place(block_id(1), at(1, 72))

    def fail() -> None:
        raise OSError("no")

    engine.storage.before_sync = fail
    with pytest.raises(OSError, match="no"):
        index.checkpoint()
    engine.storage.before_sync = None
    engine = engine.power_cut()
    index._engine = engine
    assert index.recent_count == 2
    assert index.get([block_id(1)]) == [at(1, 72)]
    index.checkpoint()
    assert new_index(engine).get([block_id(1)]) == [at(1, 72)]


def test_bad_marks_only_hit_the_copy_they_mean() -> None:
    index = new_index()
    index.begin_segment(1)
    index.advance(1, 5000)
    index.place(block_id(1), at(1, 72))
    index.place(block_id(1), at(1, 972))
    assert not index.mark_bad(block_id(1), at(1, 72))
    assert not index.mark_bad(block_id(2), at(1, 72))
    assert index.mark_bad(block_id(1), at(1, 972))
    assert not index.mark_bad(block_id(1), at(1, 972))
    assert index.block_count == 0


def test_a_distrusted_index_is_not_loaded_again() -> None:
    engine = MemoryEngine()
    index = new_index(engine)
    index.checkpoint()
    assert BlockIndex(engine, SERVER).load()
    index.distrust()
    index.begin_segment(1)
    index.checkpoint()
    assert not BlockIndex(engine, SERVER).load()


def test_an_index_of_someone_else() -> None:
    engine = MemoryEngine()
    new_index(engine).checkpoint()
    with pytest.raises(WrongCluster):
        BlockIndex(engine, ServerId("ffffffffffffffff")).load()


def test_values_that_make_no_sense() -> None:
    for value in (b"", b"\x01", b"\x01\xc1", b"\x01\x91\x01"):
        engine = MemoryEngine()
        new_index(engine).checkpoint()
        engine.commit({}, {b"b" + block_id(1): value})
        index = new_index(engine)
        with pytest.raises(EngineDamaged):
            index.get([block_id(1)])


def test_one_commit_carries_all_recent_changes() -> None:
    engine = MemoryEngine()
    index = new_index(engine)
    index.begin_segment(1)
    for number in range(RECENT_RECORDS_MAX):
        index.place(block_id(number), at(1, 72 + 200 * number))
    index.checkpoint()
    assert new_index(engine).block_count == RECENT_RECORDS_MAX
