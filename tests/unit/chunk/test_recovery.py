"""Goal: a start finds what the segments hold, whatever is wrong with the index or the tail, and
says what it did.

Method: files cut, flipped, removed and exchanged between two lives of a store.
"""

from __future__ import annotations

import errno

import pytest

from dfs.chunk.recovery import READ_TRIES
from dfs.chunk.segment_log import segment_name
from dfs.core.segments import SEGMENT_HEADER_BYTES
from dfs.engine.api import EngineDamaged
from dfs.errors import DfsError, FormatTooNew, WrongCluster
from dfs.limits import INDEX_CHECKPOINT_RECORDS, KIB
from tests.unit.chunk.rig import Block, Rig
from tests.unit.chunk.test_store_segments import assert_holds

FIRST = segment_name(1)


async def filled(
    count: int = 6, *, is_killed: bool = True, **config: int
) -> tuple[Rig, list[Block]]:
    rig = Rig(**config)
    blocks = [Block(number, size=2 * KIB) for number in range(count)]
    async with rig.store(is_killed=is_killed) as store:
        for block in blocks:
            await store.put(block.header, block.stored)
    return rig, blocks


def cut(rig: Rig, name: str, size: int) -> None:
    rig.disk.truncate(name, size)
    rig.disk.sync(name)


async def test_a_tail_torn_at_every_byte_is_cut() -> None:
    rig, blocks = await filled(2)
    whole = bytes(rig.disk.files[FIRST].content)
    record_bytes = (len(whole) - SEGMENT_HEADER_BYTES) // 2
    for size in range(SEGMENT_HEADER_BYTES, len(whole), 7):
        rig, blocks = await filled(2)
        cut(rig, FIRST, size)
        kept = (size - SEGMENT_HEADER_BYTES) // record_bytes
        await assert_holds(rig, blocks[:kept], absent=blocks[kept:])
        end = SEGMENT_HEADER_BYTES + kept * record_bytes
        assert len(rig.disk.files[FIRST].synced) == end
        async with rig.store(is_killed=True) as store:
            await store.put(blocks[1].header, blocks[1].stored)
        rig.power_cut()
        await assert_holds(rig, [*blocks[:kept], blocks[1]])


async def test_a_read_that_fails_now_and_then_costs_nothing() -> None:
    rig, blocks = await filled(3)
    read_at, failed = rig.disk.read_at, []

    def read_at_last(name: str, offset: int, length: int) -> bytes:
        is_failing = failed.count((offset, length)) < READ_TRIES - 1
        if offset >= SEGMENT_HEADER_BYTES and is_failing:
            failed.append((offset, length))
            raise OSError(errno.EIO, "not this time")
        return read_at(name, offset, length)

    rig.disk.read_at = read_at_last  # type: ignore[method-assign]
    async with rig.store(is_killed=True) as store:
        assert await store.has([block.block_id for block in blocks]) == [True] * 3
    assert failed


@pytest.mark.expects_warnings
async def test_a_tail_that_cannot_be_read_is_not_cut(caplog: pytest.LogCaptureFixture) -> None:
    """Goal: blocks that were promised outlive a disk that does not read them today. Method: the
    last record's payload fails at one start, and writing goes on elsewhere; then the index is made
    anew from all that is on the disk."""
    rig, blocks = await filled(3)
    content = bytes(rig.disk.files[FIRST].content)
    more = Block(7)
    rig.disk.unreadable[FIRST] = len(content) - KIB
    async with rig.store(is_killed=True) as store:
        await store.put(more.header, more.stored)
        assert await store.has([blocks[2].block_id]) == [False]
    assert "bytes lost" in caplog.text
    assert rig.segment_names() == [FIRST, segment_name(2)]
    assert bytes(rig.disk.files[FIRST].content) == content
    rig.disk.unreadable.clear()
    rig.lose_index()
    await assert_holds(rig, [*blocks, more])


async def test_a_torn_tail_is_no_alarm(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    rig, _ = await filled(2)
    cut(rig, FIRST, 3000)
    async with rig.store():
        pass
    assert "segment 1: torn at 2238, 762 bytes cut" in caplog.text
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


async def test_a_segment_cut_within_its_header_is_begun_anew() -> None:
    for size in (0, 1, SEGMENT_HEADER_BYTES - 1):
        rig, blocks = await filled(1)
        cut(rig, FIRST, size)
        await assert_holds(rig, [], absent=blocks)
        async with rig.store(is_killed=True) as store:
            await store.put(blocks[0].header, blocks[0].stored)
        await assert_holds(rig, blocks)
        assert rig.segment_names() == [FIRST]


async def test_damage_in_the_middle_costs_what_it_hit(caplog: pytest.LogCaptureFixture) -> None:
    rig, blocks = await filled(4)
    record_bytes = (len(rig.disk.files[FIRST].content) - SEGMENT_HEADER_BYTES) // 4
    rig.disk.flip(FIRST, SEGMENT_HEADER_BYTES + record_bytes + 500)
    await assert_holds(rig, [blocks[0], *blocks[2:]], absent=[blocks[1]])
    assert f"damage at {SEGMENT_HEADER_BYTES + record_bytes}, {record_bytes} bytes" in caplog.text


async def test_a_missing_index_is_rebuilt(caplog: pytest.LogCaptureFixture) -> None:
    rig, blocks = await filled(30, is_killed=False, segment_bytes=20 * KIB)
    rig.lose_index()
    await assert_holds(rig, blocks)
    assert "index: it is missing; rebuilding it from 4 segments" in caplog.text
    assert "index: rebuilt, 30 blocks" in caplog.text
    caplog.clear()
    await assert_holds(rig, blocks)
    assert not caplog.text


async def test_a_rebuild_reads_only_headers_of_sealed_segments(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rig = Rig(segment_bytes=600 * KIB)
    blocks = [Block(number, size=200 * KIB) for number in range(10)]
    async with rig.store() as store:
        for block in blocks:
            await store.put(block.header, block.stored)
    rig.lose_index()
    async with rig.store():
        assert rig.disk.bytes_read < 600 * KIB
    assert "rebuilt, 10 blocks" in caplog.text


async def test_a_truncated_segment(caplog: pytest.LogCaptureFixture) -> None:
    rig, blocks = await filled(12, is_killed=False, segment_bytes=20 * KIB)
    cut(rig, FIRST, 10 * KIB)
    async with rig.store() as store:
        has = await store.has([block.block_id for block in blocks])
    assert has == [True] * 4 + [False] * 5 + [True] * 3
    assert "segment 1 has 10240 bytes" in caplog.text
    assert "segment 1: torn at" in caplog.text


async def test_a_segment_that_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    rig, blocks = await filled(20, is_killed=False, segment_bytes=20 * KIB)
    rig.disk.remove(FIRST)
    rig.disk.sync_directory("segments")
    await assert_holds(rig, blocks[9:], absent=blocks[:9])
    assert "segment 1 is gone; rebuilding" in caplog.text


async def test_an_index_that_does_not_know_a_segment(caplog: pytest.LogCaptureFixture) -> None:
    rig, blocks = await filled(20, is_killed=False, segment_bytes=20 * KIB)
    key = b"s" + (2).to_bytes(8, "big")
    rig.storage._apply(  # an index that forgot
        type("Batch", (), {"clears": (), "deletes": frozenset([key]), "puts": {}})()
    )
    await assert_holds(rig, blocks)
    assert "does not know segment 2; rebuilding" in caplog.text


async def test_a_lying_index_is_caught_by_reading(caplog: pytest.LogCaptureFixture) -> None:
    rig, blocks = await filled(3, is_killed=False)
    keys = sorted(key for key in rig.storage._values if key.startswith(b"b"))
    values = rig.storage._values
    values[keys[0]], values[keys[1]] = values[keys[1]], values[keys[0]]
    async with rig.store() as store:
        verdicts = await store.verify([block.block_id for block in blocks])
        assert sorted(verdicts) == ["corrupt", "corrupt", "good"]
    assert "the next start rebuilds it" in caplog.text
    await assert_holds(rig, blocks)
    assert "index: it is missing; rebuilding" in caplog.text


async def test_an_index_full_of_nonsense_is_reported() -> None:
    rig, _ = await filled(3, is_killed=False)
    for key in rig.storage._values:
        rig.storage._values[key] = b"\x01nonsense"
    with pytest.raises(EngineDamaged, match="makes no sense"):
        async with rig.store():
            pass


async def test_an_older_index_is_brought_up_to_date() -> None:
    rig, blocks = await filled(20, is_killed=False, segment_bytes=20 * KIB)
    old = dict(rig.storage._values)
    more = [Block(number, size=2 * KIB) for number in range(100, 120)]
    async with rig.store() as store:
        for block in more:
            await store.put(block.header, block.stored)
        await store.delete([block.block_id for block in blocks[:3]])
    rig.storage._values = old
    rig.storage._keys = sorted(old)
    await assert_holds(rig, blocks[3:] + more, absent=blocks[:3])


async def test_another_servers_index() -> None:
    rig, _ = await filled(3, is_killed=False)
    other, _ = await filled(3, is_killed=False)
    text = other.disk.files["server.json"].content.replace(
        other.identity.server_id.encode(), b"ffffffffffffffff"
    )
    rig.disk.files["server.json"].content = text
    with pytest.raises(WrongCluster, match="the index belongs to chunk server"):
        async with rig.store():
            pass


@pytest.mark.expects_warnings
async def test_another_servers_segment() -> None:
    rig, _ = await filled(3, is_killed=False)
    rig.lose_index()
    content = rig.disk.files["server.json"].content
    content[:] = content.replace(rig.identity.server_id.encode(), b"ffffffffffffffff")
    with pytest.raises(WrongCluster, match="segment 1 belongs to chunk server"):
        async with rig.store():
            pass


@pytest.mark.expects_warnings
async def test_a_damaged_file_header_loses_nothing() -> None:
    rig, blocks = await filled(20, is_killed=False, segment_bytes=20 * KIB)
    for name in rig.segment_names():
        rig.disk.flip(name, 30)
    rig.lose_index()
    await assert_holds(rig, blocks)
    more = Block(99)
    async with rig.store() as store:
        await store.put(more.header, more.stored)
    await assert_holds(rig, [*blocks, more])


async def test_a_newer_segment_format(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfs.core.segments.SEGMENT_FORMAT_VERSION", 2)
    rig, _ = await filled(1)
    monkeypatch.undo()
    with pytest.raises(FormatTooNew, match="segment format 2"):
        async with rig.store():
            pass


async def test_a_newer_index_format(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfs.chunk.index.INDEX_FORMAT_VERSION", 2)
    rig, _ = await filled(1, is_killed=False)
    monkeypatch.undo()
    with pytest.raises(FormatTooNew, match="index format 2"):
        async with rig.store():
            pass


async def test_unreadable_segments_stop_the_start() -> None:
    rig, _ = await filled(1, is_killed=False)
    rig.disk.fail("list", errno.EIO, times=1)
    with pytest.raises(DfsError, match="the segments cannot be read: Input/output error"):
        async with rig.store():
            pass


@pytest.mark.expects_warnings
async def test_a_rebuild_that_was_stopped_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfs.chunk.recovery.INDEX_CHECKPOINT_RECORDS", 4)
    assert INDEX_CHECKPOINT_RECORDS > 4
    rig, blocks = await filled(30, is_killed=False, segment_bytes=20 * KIB)
    rig.lose_index()
    rig.disk.dies_at = 30
    with pytest.raises(DfsError):
        async with rig.store():
            pass
    assert rig.storage._values
    rig.disk.close()
    rig.disk = rig.disk.process_killed()
    await assert_holds(rig, blocks)


async def test_files_that_are_not_segments_are_left_alone() -> None:
    rig, blocks = await filled(2, is_killed=False)
    for name in ("segments/notes.txt", "segments/0.segment", "segments/x.segment"):
        rig.disk.write_at(name, 0, [b"mine"])
    await assert_holds(rig, blocks)
    assert rig.disk.read_at("segments/notes.txt", 0, 9) == b"mine"
