"""I7: a server that lost its shard can commit nothing."""

from __future__ import annotations

import errno

import pytest
import trio

from dfs.core.namespace.keys import FENCE_KEY, inode_key
from dfs.core.namespace.records import Fence, decode_record, encode_record
from dfs.engine.api import Unknown
from dfs.engine.memory_engine import MemoryEngine
from dfs.errors import Fenced, NoSpace
from dfs.meta.shards import ShardOwner
from tests.unit.meta.rig import (
    Background,
    Mount,
    Threads,
    assert_sound,
    environment_of,
    running,
    settle,
)


def fence_of(engine: MemoryEngine) -> Fence:
    [value] = engine.get([FENCE_KEY])
    assert value is not None
    return decode_record(Fence, value)


async def owner_of(engine: MemoryEngine, threads: Threads | None = None) -> ShardOwner:
    owner = ShardOwner(engine, environment_of(threads or Threads()))
    await owner.take()
    return owner


async def test_every_batch_counts_and_every_owner_raises_the_epoch() -> None:
    engine = MemoryEngine()
    first = await owner_of(engine)
    assert (first.shard_epoch, fence_of(engine)) == (1, Fence(1, 0))
    await first.commit({b"\0\0Ca": b"1"}, ())
    await first.commit({}, (b"\0\0Ca",))
    assert fence_of(engine) == Fence(1, 2)
    second = await owner_of(engine)
    assert (second.shard_epoch, fence_of(engine)) == (2, Fence(2, 2))


async def test_whoever_lost_the_shard_commits_nothing() -> None:
    engine = MemoryEngine()
    first = await owner_of(engine)
    second = await owner_of(engine)
    with pytest.raises(Fenced, match="owned by another server"):
        await first.commit({b"\0\0Ca": b"1"}, ())
    assert engine.get([b"\0\0Ca"]) == [None]
    await second.commit({b"\0\0Ca": b"2"}, ())
    assert engine.get([b"\0\0Ca"]) == [b"2"]


@pytest.mark.expects_warnings
@pytest.mark.parametrize("is_written", [False, True])
async def test_an_unknown_outcome_is_found_out_once_and_for_all(is_written: bool) -> None:
    """The batch is there once, under whichever epoch."""
    engine, threads = MemoryEngine(), Threads()
    owner = await owner_of(engine, threads)
    (threads.late_errors if is_written else threads.commit_errors).append(Unknown("broken"))
    await owner.commit({b"\0\0Ca": b"1"}, ())
    assert engine.get([b"\0\0Ca"]) == [b"1"]
    assert fence_of(engine) == Fence(2, 1)
    await owner.commit({b"\0\0Cb": b"2"}, ())
    assert fence_of(engine) == Fence(2, 2)


@pytest.mark.expects_warnings
@pytest.mark.parametrize("is_batch_written", [False, True])
@pytest.mark.parametrize("is_raise_written", [False, True])
async def test_raising_the_epoch_may_have_an_unknown_outcome_too(
    is_batch_written: bool, is_raise_written: bool
) -> None:
    engine, threads = MemoryEngine(), Threads()
    owner = await owner_of(engine, threads)
    script = [is_batch_written, is_raise_written]
    original = engine.commit

    def commit(*arguments: object) -> None:
        is_written = script.pop(0) if script else None
        if is_written is not False:
            original(*arguments)  # type: ignore[arg-type]
        if is_written is not None:
            raise Unknown("broken")

    engine.commit = commit  # type: ignore[assignment,method-assign]
    await owner.commit({b"\0\0Ca": b"1"}, ())
    assert engine.get([b"\0\0Ca"]) == [b"1"]
    assert fence_of(engine).batch_number == 1
    await owner.commit({b"\0\0Cb": b"2"}, ())
    assert fence_of(engine).batch_number == 2


@pytest.mark.expects_warnings
@pytest.mark.parametrize("is_written", [False, True])
async def test_a_full_disk_does_not_hide_what_became_of_a_batch(
    is_written: bool, autojump_clock: object
) -> None:
    """The batch of unknown outcome may have landed: a full disk while finding out is no answer."""
    engine, threads = MemoryEngine(), Threads()
    owner = await owner_of(engine, threads)
    if is_written:
        threads.late_errors.append(Unknown("broken"))
        threads.commit_errors += [None, NoSpace("full")]
    else:
        threads.commit_errors += [Unknown("broken"), NoSpace("full")]
    await owner.commit({b"\0\0Ca": b"1"}, ())
    assert engine.get([b"\0\0Ca"]) == [b"1"]
    assert fence_of(engine) == Fence(2, 1)


@pytest.mark.expects_warnings
async def test_a_take_over_during_an_unknown_outcome_fences() -> None:
    engine, threads = MemoryEngine(), Threads()
    owner = await owner_of(engine, threads)
    original = engine.commit

    def commit(*arguments: object) -> None:
        engine.commit = original  # type: ignore[method-assign]
        now = fence_of(engine)
        others = Fence(now.shard_epoch + 1, now.batch_number)
        original({FENCE_KEY: encode_record(now)}, {FENCE_KEY: encode_record(others)})
        raise Unknown("broken")

    engine.commit = commit  # type: ignore[assignment,method-assign]
    with pytest.raises(Fenced):
        await owner.commit({b"\0\0Ca": b"1"}, ())
    assert engine.get([b"\0\0Ca"]) == [None]


async def test_no_space_leaves_the_fence_as_it_was() -> None:
    engine, threads = MemoryEngine(), Threads()
    owner = await owner_of(engine, threads)
    threads.commit_errors.append(NoSpace("full"))
    with pytest.raises(NoSpace):
        await owner.commit({b"\0\0Ca": b"1"}, ())
    await owner.commit({b"\0\0Ca": b"1"}, ())
    assert fence_of(engine) == Fence(1, 1)


@pytest.mark.expects_warnings
async def test_the_older_of_two_servers_on_one_engine_stops() -> None:
    """It answers nothing that it could not commit, and says why it ends."""
    engine = MemoryEngine()
    reasons: list[BaseException] = []
    try:
        async with running(engine) as older, trio.open_nursery() as nursery:
            mount = await Mount.arrive(older)
            await mount.do(mount.create(b"a"))
            async with running(engine) as newer:
                create = mount.create(b"lost")
                lost = mount.number(create)
                answer = Background(nursery, lambda: mount.send(lost))
                await settle()
                assert not answer.is_over
                assert engine.get([inode_key(create.ino)]) == [None]
                await mount.come_back(newer, 2)
                assert [o.errno for o in await mount.send(lost)] == [0]
                assert (await mount.do(mount.create(b"lost"))).errno == errno.EEXIST
            await trio.sleep_forever()
    except* Fenced as group:
        reasons.extend(group.exceptions)
    assert reasons
    assert_sound(engine)
