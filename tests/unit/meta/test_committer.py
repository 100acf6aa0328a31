"""I3: nothing is told before it is durable, neither by the op's answer nor by anybody's read."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
import trio

from dfs.core.messages import GetAttr, GetXattr, Lookup, Open, ReadDirectory, ReadExtents, StatFs
from dfs.core.namespace.keys import COUNTERS_KEY, inode_key
from dfs.core.namespace.ops import SetXattr
from dfs.core.namespace.records import Counters, Inode, decode_record
from dfs.engine.api import EngineLimits, Retry, Unknown
from dfs.engine.memory_engine import MemoryEngine
from dfs.errors import FsError, NoSpace, Overloaded
from dfs.types import ROOT, InodeId
from tests.unit.meta.rig import (
    NOW_NS,
    USER,
    Background,
    Mount,
    Threads,
    assert_sound,
    running,
    settle,
    unlink,
    write_block,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from dfs.core.messages import MetaRequest


def counters_of(engine: MemoryEngine) -> Counters:
    [value] = engine.get([COUNTERS_KEY])
    assert value is not None
    return decode_record(Counters, value)


async def test_no_answer_before_the_commit() -> None:
    engine, threads = MemoryEngine(), Threads()
    async with running(engine, threads) as server, trio.open_nursery() as nursery:
        mount = await Mount.arrive(server)
        threads.hold_commits()
        create = mount.create(b"a")
        made = Background(nursery, lambda: mount.do(create))
        await settle()
        assert not made.is_over
        assert engine.get([inode_key(create.ino)]) == [None]
        threads.release_commits()
        await settle()
        assert made.result.errno == 0
        assert engine.get([inode_key(create.ino)]) != [None]


READS: list[Callable[[Mount, InodeId], MetaRequest]] = [
    lambda mount, ino: GetAttr(ino=ino),
    lambda mount, ino: GetAttr(ino=ROOT),
    lambda mount, ino: Lookup(parent=ROOT, name=b"new"),
    lambda mount, ino: Lookup(parent=ROOT, name=b"gone"),
    lambda mount, ino: Open(session_id=mount.session_id, ino=ino),
    lambda mount, ino: ReadExtents(ino=ino, start=0, end=1 << 20),
    lambda mount, ino: ReadDirectory(ino=ROOT),
    lambda mount, ino: GetXattr(ino=ino, name=b"user.x"),
    lambda mount, ino: StatFs(),
]


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("read", READS)
async def test_reads_of_changed_records_wait_for_the_commit(
    read: Callable[[Mount, InodeId], MetaRequest], depth: int
) -> None:
    """Also of records that are absent by the change, and of changes stacked on a held batch."""
    engine, threads = MemoryEngine(), Threads()
    async with running(engine, threads) as server, trio.open_nursery() as nursery:
        mount, other = await Mount.arrive(server), await Mount.arrive(server, 2)
        await mount.do(mount.create(b"gone"))
        file = mount.create(b"file")
        await mount.do(file)
        threads.hold_commits()
        if depth == 2:
            Background(nursery, lambda: other.do(other.mkdir(b"held in the batch below")))
            await settle()
        xattr = SetXattr(credentials=USER, now_ns=NOW_NS, ino=file.ino, name=b"user.x", value=b"1")
        changes = [mount.create(b"new"), unlink(b"gone"), write_block(file.ino, 1), xattr]
        ops = [mount.number(op) for op in changes]
        Background(nursery, lambda: mount.send(*ops))
        await settle()
        asked = Background(nursery, lambda: other.ask(read(other, file.ino)))
        await settle()
        assert not asked.is_over
        threads.release_commits()
        await settle()
        assert asked.is_over


@pytest.mark.parametrize("read", [READS[0], READS[6]])
async def test_a_read_waits_for_the_newest_of_two_batches(
    read: Callable[[Mount, InodeId], MetaRequest],
) -> None:
    """Both changed what it shows, and only the older one has landed (found by simulation)."""
    engine, threads = MemoryEngine(), Threads()
    async with running(engine, threads) as server, trio.open_nursery() as nursery:
        mount, other = await Mount.arrive(server), await Mount.arrive(server, 2)
        file = mount.create(b"file")
        await mount.do(file)
        threads.hold_commits()
        older = [mount.number(op) for op in (write_block(file.ino, 1), mount.create(b"x"))]
        Background(nursery, lambda: mount.send(*older))
        await settle()
        newer = [other.number(op) for op in (write_block(file.ino, 2), other.create(b"y"))]
        Background(nursery, lambda: other.send(*newer))
        await settle()
        asked = Background(nursery, lambda: other.ask(read(other, file.ino)))
        await settle()
        before = threads.commit_count
        threads.release_commits()
        threads.hold_commits()
        await settle()
        is_told, landed_count = asked.is_over, threads.commit_count - before
        threads.release_commits()
        await settle()
        assert asked.is_over
    assert landed_count == 1
    assert not is_told


async def test_reads_of_unchanged_records_do_not_wait() -> None:
    engine, threads = MemoryEngine(), Threads()
    async with running(engine, threads) as server, trio.open_nursery() as nursery:
        mount = await Mount.arrive(server)
        directory = mount.mkdir(b"d")
        await mount.do(directory)
        await mount.do(mount.create(b"calm", parent=directory.ino))
        threads.hold_commits()
        Background(nursery, lambda: mount.do(mount.create(b"new")))
        await settle()
        found = await mount.ask(Lookup(parent=directory.ino, name=b"calm"))
        assert found.inode.nlink == 1
        entries = (await mount.ask(ReadDirectory(ino=directory.ino))).entries
        assert [entry.name for entry in entries] == [b"calm"]
        threads.release_commits()


async def test_an_op_that_fails_by_what_is_not_durable_yet_waits_too() -> None:
    engine, threads = MemoryEngine(), Threads()
    async with running(engine, threads) as server, trio.open_nursery() as nursery:
        mount, other = await Mount.arrive(server), await Mount.arrive(server, 2)
        threads.hold_commits()
        Background(nursery, lambda: mount.do(mount.create(b"a")))
        await settle()
        exists = Background(nursery, lambda: other.do(other.create(b"a")))
        await settle()
        assert not exists.is_over
        threads.release_commits()
        await settle()
        assert exists.result.errno == errno.EEXIST


async def test_one_commit_carries_what_gathered_meanwhile() -> None:
    engine, threads = MemoryEngine(), Threads()
    async with running(engine, threads) as server, trio.open_nursery() as nursery:
        mounts = [await Mount.arrive(server, number) for number in range(1, 21)]
        before = threads.commit_count
        threads.hold_commits()
        for mount in mounts:
            create = mount.create(b"%d" % mount.session_id)
            Background(nursery, lambda m=mount, op=create: m.do(op))  # type: ignore[misc]
            await settle()
        threads.release_commits()
        await settle()
        assert threads.commit_count == before + 2
    assert_sound(engine)


async def test_batches_are_bounded() -> None:
    """Ops that find the open batch full wait for the next one, in order."""
    engine, threads = MemoryEngine(), Threads()
    async with running(engine, threads) as server, trio.open_nursery() as nursery:
        mount = await Mount.arrive(server)
        threads.hold_commits()
        ops = [mount.number(mount.create(b"%d" % n)) for n in range(1000)]
        sent = Background(nursery, lambda: mount.send(*ops))
        await settle()
        before = threads.commit_count
        threads.release_commits()
        while not sent.is_over:
            await settle()
        assert {outcome.errno for outcome in sent.result} == {0}
        # Two records of its own each, at most 1000 in a batch.
        assert threads.commit_count >= before + 2
    assert_sound(engine)


async def test_an_op_over_the_engines_limits_fails_alone() -> None:
    engine = MemoryEngine(limits=EngineLimits(value_bytes_max=4096))
    async with running(engine) as server:
        mount = await Mount.arrive(server)
        file = mount.create(b"a")
        await mount.do(file)
        xattr = SetXattr(
            credentials=USER, now_ns=NOW_NS, ino=file.ino, name=b"user.x", value=bytes(10_000)
        )
        outcome = await mount.do(xattr)
        assert (outcome.errno, outcome.kind) == (errno.EIO, "TooLarge")
        assert (await mount.getattr(file.ino)).xattr_count == 0
        assert (await mount.do(mount.create(b"b"))).errno == 0
    assert_sound(engine)


async def test_totals_are_exact_in_every_commit() -> None:
    engine = MemoryEngine()
    async with running(engine) as server:
        mount = await Mount.arrive(server)
        file = mount.create(b"a")
        await mount.do(file)
        await mount.do(mount.mkdir(b"d"))
        assert counters_of(engine).inode_count == 3
        await mount.do(write_block(file.ino, 1, length=5000))
        await mount.do(write_block(file.ino, 2, length=3000, offset=100_000))
        assert counters_of(engine).stored_bytes == 8000
        assert_sound(engine)
        await mount.do(unlink(b"a"))
        await settle()
        assert (counters_of(engine).inode_count, counters_of(engine).stored_bytes) == (2, 0)
    assert_sound(engine)


async def test_a_failed_batch_leaves_nothing_in_memory() -> None:
    engine, threads = MemoryEngine(), Threads()
    async with running(engine, threads) as server:
        mount = await Mount.arrive(server)
        await mount.do(mount.create(b"keep"))
        before = await mount.getattr(ROOT)
        threads.commit_errors.append(NoSpace("full"))
        assert (await mount.do(mount.create(b"a"))).errno == errno.ENOSPC
        assert await mount.getattr(ROOT) == before
        with pytest.raises(FsError, match="ENOENT"):
            await mount.ask(Lookup(parent=ROOT, name=b"a"))
        names = [e.name for e in (await mount.ask(ReadDirectory(ino=ROOT))).entries]
        assert names == [b"keep"]
        assert (await mount.ask(StatFs())).inode_count == 2
        assert (await mount.do(mount.create(b"a"))).errno == 0
    assert_sound(engine)


async def test_a_new_session_is_refused_when_the_disk_is_full() -> None:
    threads = Threads()
    async with running(MemoryEngine(), threads) as server:
        threads.commit_errors.append(NoSpace("full"))
        with pytest.raises(NoSpace):
            await Mount.arrive(server)
        assert (await Mount.arrive(server)).session_id == 1


@pytest.mark.expects_warnings
@pytest.mark.parametrize("is_written", [False, True])
async def test_a_commit_of_unknown_outcome_is_found_out(is_written: bool) -> None:
    engine, threads = MemoryEngine(), Threads()
    async with running(engine, threads) as server:
        mount = await Mount.arrive(server)
        errors = threads.late_errors if is_written else threads.commit_errors
        errors.append(Unknown("the link to the engine broke"))
        assert (await mount.do(mount.create(b"a"))).errno == 0
        assert (await mount.do(mount.create(b"b"))).errno == 0
        assert counters_of(engine).inode_count == 3
    assert_sound(engine)


async def test_the_engine_may_ask_to_try_again(autojump_clock: object) -> None:
    engine, threads = MemoryEngine(), Threads()
    async with running(engine, threads) as server:
        mount = await Mount.arrive(server)
        threads.commit_errors += [Retry("busy")] * 20
        assert (await mount.do(mount.create(b"a"))).errno == 0
    assert_sound(engine)


async def test_cancelling_finishes_the_batch_in_flight() -> None:
    engine, threads = MemoryEngine(), Threads()
    async with running(engine, threads) as server, trio.open_nursery() as nursery:
        mount = await Mount.arrive(server)
        threads.hold_commits()
        create = mount.create(b"a")
        Background(nursery, lambda: mount.do(create))
        await settle()
        nursery.cancel_scope.cancel()
        server.stop()
        threads.release_commits()
    [value] = engine.get([inode_key(create.ino)])
    assert value is not None
    assert decode_record(Inode, value).nlink == 1
    assert_sound(engine)


async def test_overloaded_is_told_to_waiters_above_a_failed_batch() -> None:
    threads = Threads()
    async with running(MemoryEngine(), threads) as server, trio.open_nursery() as nursery:
        mount = await Mount.arrive(server)
        threads.hold_commits()
        Background(nursery, lambda: mount.do(mount.create(b"a")))
        await settle()
        arriving = Background(nursery, lambda: Mount.arrive(server, 2))
        await settle()
        threads.commit_errors.append(NoSpace("full"))
        threads.release_commits()
        await settle()
        assert isinstance(arriving.error, Overloaded)
