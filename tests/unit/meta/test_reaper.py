"""Orphans are taken apart when nobody holds them, in bounded steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from dfs.core.messages import GetStatus, Release
from dfs.core.namespace.keys import block_key, inode_key, orphan_key
from dfs.core.namespace.records import BlockRef, Orphan, decode_record, encode_record
from dfs.engine.memory_engine import MemoryEngine
from dfs.errors import NoSpace
from tests.unit.meta.rig import (
    Mount,
    Threads,
    assert_sound,
    block_id,
    rows_of,
    running,
    settle,
    unlink,
    write_block,
)

if TYPE_CHECKING:
    from dfs.types import InodeId

EXTENTS = 400


def is_there(engine: MemoryEngine, ino: InodeId) -> bool:
    return engine.get([inode_key(ino)]) != [None]


async def large_file(mount: Mount, name: bytes = b"large") -> InodeId:
    """More extents than one step removes."""
    create = mount.create(name)
    await mount.do(create)
    ops = [
        mount.number(write_block(create.ino, number, offset=number * 131_072))
        for number in range(EXTENTS)
    ]
    for start in range(0, EXTENTS, 100):
        outcomes = await mount.send(*ops[start : start + 100])
        assert {outcome.errno for outcome in outcomes} == {0}
    mount.answered_below = mount.next_number
    return create.ino


async def test_a_large_orphan_goes_step_by_step_in_the_background() -> None:
    engine, threads = MemoryEngine(), Threads()
    async with running(engine, threads) as server:
        mount = await Mount.arrive(server)
        ino = await large_file(mount)
        before = threads.commit_count
        await mount.do(unlink(b"large"))
        while is_there(engine, ino):
            await settle()
        assert threads.commit_count >= before + 4
        assert engine.get([orphan_key(ino)]) == [None]
        assert (await mount.ask(GetStatus())).garbage_count == EXTENTS
        assert (await mount.ask(GetStatus())).orphan_count == 0
    assert_sound(engine)


async def test_a_restart_in_the_middle_goes_on(autojump_clock: object) -> None:
    engine, threads = MemoryEngine(), Threads()
    async with running(engine, threads) as server:
        mount = await Mount.arrive(server)
        ino = await large_file(mount)
        await mount.do(unlink(b"large"))
        threads.hold_commits()
        await settle()
        server.stop()
        threads.release_commits()
    assert is_there(engine, ino)
    assert_sound(engine)
    async with running(engine) as server:
        await mount.come_back(server, 2)
        await trio.sleep(1)
        assert not is_there(engine, ino)
    assert_sound(engine)


@pytest.mark.expects_warnings
async def test_a_full_disk_only_delays_it(autojump_clock: object) -> None:
    engine, threads = MemoryEngine(), Threads()
    async with running(engine, threads) as server:
        mount = await Mount.arrive(server)
        create = mount.create(b"a")
        await mount.do(create, has_hold=True)
        await mount.do(unlink(b"a"))
        threads.commit_errors.append(NoSpace("full"))
        await mount.ask(Release(session_id=mount.session_id, inos=(create.ino,)))
        await trio.sleep(0.5)
        assert is_there(engine, create.ino)
        await trio.sleep(5)
        assert not is_there(engine, create.ino)
    assert_sound(engine)


async def test_an_orphan_of_a_batch_that_failed_keeps_its_name() -> None:
    engine, threads = MemoryEngine(), Threads()
    async with running(engine, threads) as server:
        mount = await Mount.arrive(server)
        create = mount.create(b"a")
        await mount.do(create, has_hold=True)
        threads.commit_errors.append(NoSpace("full"))
        assert (await mount.do(unlink(b"a"))).errno != 0
        await mount.ask(Release(session_id=mount.session_id, inos=(create.ino,)))
        await settle()
        assert (await mount.getattr(create.ino)).nlink == 1
    assert_sound(engine)


@pytest.mark.expects_warnings
async def test_damaged_counts_stop_one_orphan_and_not_the_server() -> None:
    engine = MemoryEngine()
    async with running(engine) as server:
        mount = await Mount.arrive(server)
        create = mount.create(b"a")
        await mount.do(create)
        await mount.do(write_block(create.ino, 1))
    # Counted too low: fsck would find it.
    [value] = engine.get([block_key(block_id(1))])
    assert value is not None
    assert decode_record(BlockRef, value).count == 1
    engine.commit({}, {block_key(block_id(1)): encode_record(BlockRef(0, 65536))})
    async with running(engine) as server:
        await mount.come_back(server, 2)
        assert (await mount.do(unlink(b"a"))).errno == 0
        await settle()
        assert is_there(engine, create.ino)
        assert (await mount.do(mount.create(b"b"))).errno == 0


async def test_a_mark_without_an_inode_is_swept() -> None:
    engine = MemoryEngine()
    async with running(engine) as server:
        mount = await Mount.arrive(server)
        ino = mount.ino()
    key = orphan_key(ino)
    engine.commit({}, {key: encode_record(Orphan())})
    async with running(engine) as server:
        await mount.come_back(server, 2)
        await settle()
        assert key not in rows_of(engine)
    assert_sound(engine)
