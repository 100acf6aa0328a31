"""I8: an op takes effect once, however often it is sent, over whatever links and restarts."""

from __future__ import annotations

import errno
import stat
from typing import TYPE_CHECKING

import pytest
import trio

from dfs.core.messages import ApplyOps, Lookup, OpOutcome, Release
from dfs.core.namespace.keys import session_key
from dfs.core.namespace.ops import Link, Rename, SetAttr, Symlink
from dfs.core.namespace.records import SessionRecord, decode_record
from dfs.engine.memory_engine import MemoryEngine
from dfs.errors import Disconnected, FsError, NoSpace, Overloaded, RemoteProtocolError
from dfs.limits import OPS_IN_FLIGHT_MAX
from dfs.types import ROOT, InodeId, OpNumber
from tests.unit.meta.rig import (
    NOW_NS,
    USER,
    Background,
    Mount,
    Threads,
    assert_sound,
    doomed,
    errnos,
    running,
    settle,
    unlink,
    write_block,
)

if TYPE_CHECKING:
    from dfs.core.messages import NumberedOp


def ino_of(outcome: OpOutcome) -> int:
    assert outcome.result is not None
    assert outcome.result.inode is not None
    return outcome.result.inode.ino


def rename(name: bytes, new_name: bytes) -> Rename:
    return Rename(
        credentials=USER,
        now_ns=NOW_NS,
        parent=ROOT,
        name=name,
        new_parent=ROOT,
        new_name=new_name,
    )


async def names_of(mount: Mount, *names: bytes) -> list[int | None]:
    found: list[int | None] = []
    for name in names:
        try:
            reply = await mount.ask(Lookup(parent=ROOT, name=name))
        except FsError as error:
            if error.errno != errno.ENOENT:
                raise
            found.append(None)
        else:
            found.append(reply.inode.ino)
    return found


def session_record(engine: MemoryEngine, mount: Mount) -> SessionRecord:
    [value] = engine.get([session_key(mount.session_id)])
    assert value is not None
    return decode_record(SessionRecord, value)


def every_kind(mount: Mount) -> list[NumberedOp]:
    """Ops that succeed and fail, and change what earlier ones made."""
    create = mount.create(b"a")
    ops = [
        create,
        mount.create(b"a"),
        mount.mkdir(b"d"),
        Symlink(
            credentials=USER, now_ns=NOW_NS, parent=ROOT, name=b"s", ino=mount.ino(), target=b"a"
        ),
        Link(credentials=USER, now_ns=NOW_NS, ino=create.ino, parent=ROOT, name=b"l"),
        SetAttr(credentials=USER, now_ns=NOW_NS, ino=create.ino, mode=0o600),
        rename(b"a", b"b"),
        unlink(b"a"),
    ]
    return [mount.number(op) for op in ops]


EVERY_ERRNO = [0, errno.EEXIST, 0, 0, 0, 0, 0, errno.ENOENT]


async def test_ops_of_one_message_build_on_each_other() -> None:
    engine = MemoryEngine()
    async with running(engine) as server:
        mount = await Mount.arrive(server)
        mkdir = mount.mkdir(b"d")
        ops = [mount.number(mkdir), mount.number(mount.create(b"f", parent=mkdir.ino))]
        ops.append(mount.number(mount.create(b"f", parent=mkdir.ino)))
        assert errnos(await mount.send(*ops)) == [0, 0, errno.EEXIST]
    assert_sound(engine)


async def test_a_re_sent_op_is_told_again_and_not_done_again() -> None:
    engine = MemoryEngine()
    async with running(engine) as server:
        mount = await Mount.arrive(server)
        ops = (
            mount.number(mount.create(b"a")),
            mount.number(mount.create(b"a")),
            mount.number(unlink(b"a")),
            mount.number(mount.create(b"a")),
        )
        first = await mount.send(*ops)
        assert errnos(first) == [0, errno.EEXIST, 0, 0]
        assert await mount.send(*ops) == first
        assert await names_of(mount, b"a") == [ino_of(first[3])]
    assert_sound(engine)


async def test_outcomes_are_told_from_the_records_after_a_restart() -> None:
    """Successful ones by the inode of now, failed ones as they were, whatever came later."""
    engine = MemoryEngine()
    async with running(engine) as server:
        mount = await Mount.arrive(server)
        ops = every_kind(mount)
        assert errnos(await mount.send(*ops)) == EVERY_ERRNO
        # One more that succeeds, so that the failure before it is durable with it.
        ops.append(mount.number(mount.create(b"z")))
        await mount.send(*ops)
    async with running(engine) as server:
        reply = await mount.come_back(server, 2)
        assert reply.last_op == 9
        told = await mount.send(*ops)
        assert errnos(told) == [*EVERY_ERRNO, 0]
        assert [ino_of(told[2]), ino_of(told[3])] == [ops[2].op.ino, ops[3].op.ino]  # type: ignore[union-attr]
        for outcome in (told[0], told[4], told[5]):
            assert outcome.result is not None
            assert outcome.result.inode is not None
            assert stat.S_IMODE(outcome.result.inode.mode) == 0o600
            assert outcome.result.inode.nlink == 2
        file_ino = ops[0].op.ino  # type: ignore[union-attr]
        assert await names_of(mount, b"a", b"b", b"l") == [None, file_ino, file_ino]
    assert_sound(engine)


@pytest.mark.expects_warnings
@pytest.mark.parametrize("is_written", [False, True])
@pytest.mark.parametrize("answered_count", range(9))
async def test_a_crash_at_every_point_leaves_each_op_once(
    answered_count: int, is_written: bool
) -> None:
    """Some ops are answered, the server dies in the commit of the others, those are re-sent."""
    engine, threads = MemoryEngine(), Threads()
    async with doomed(engine, threads) as server:
        mount = await Mount.arrive(server)
        ops = every_kind(mount)
        for numbered, expected in zip(ops[:answered_count], EVERY_ERRNO, strict=False):
            [outcome] = await mount.send(numbered)
            assert outcome.errno == expected
            mount.answered_below = numbered.number + 1
        threads.crash(is_written=is_written)
        # An op that fails alone needs no commit: something else has to run into the crash.
        last = mount.number(mount.create(b"last"))
        await mount.send(*ops[answered_count:], last)
    async with running(engine) as server:
        reply = await mount.come_back(server, 2)
        assert reply.last_op <= len(ops) + 1
        told = await mount.send(*ops[answered_count:], last)
        assert errnos(told) == [*EVERY_ERRNO[answered_count:], 0]
        file_ino = ops[0].op.ino  # type: ignore[union-attr]
        assert await names_of(mount, b"a", b"b", b"l") == [None, file_ino, file_ino]
        assert (await mount.getattr(file_ino)).nlink == 2
    assert_sound(engine)


async def test_a_duplicate_over_a_new_link_joins_the_attempt_under_way() -> None:
    engine, threads = MemoryEngine(), Threads()
    async with running(engine, threads) as server, trio.open_nursery() as nursery:
        mount = await Mount.arrive(server)
        threads.hold_commits()
        ops = (mount.number(mount.create(b"a")), mount.number(unlink(b"a")))
        old = Background(nursery, lambda: mount.send(*ops))
        await settle()
        Background(nursery, lambda: mount.come_back(server, 2))
        await settle()
        new = Background(nursery, lambda: mount.send(*ops))
        await settle()
        assert not old.is_over
        assert not new.is_over
        threads.release_commits()
        await settle()
        assert errnos(old.result) == errnos(new.result) == [0, 0]
        assert session_record(engine, mount).last_op == 2
    assert_sound(engine)


async def test_an_older_link_can_do_nothing_once_the_session_moved() -> None:
    async with running(MemoryEngine()) as server:
        mount = await Mount.arrive(server)
        stale = mount.link
        await mount.come_back(server, 2)
        for request in (
            Release(session_id=mount.session_id, inos=(ROOT,)),
            ApplyOps(session_id=mount.session_id, ops=(mount.number(mount.create(b"a")),)),
        ):
            with pytest.raises(Disconnected):
                await server.handle(request, b"", stale)
        assert await names_of(mount, b"a") == [None]


async def test_a_failed_op_alone_needs_no_commit_and_its_number_may_be_lost() -> None:
    """Answered, not durable; after a restart the stream goes on behind it."""
    engine, threads = MemoryEngine(), Threads()
    async with running(engine, threads) as server:
        mount = await Mount.arrive(server)
        await mount.do(mount.create(b"a"))
        before = threads.commit_count
        assert (await mount.do(mount.create(b"a"))).errno == errno.EEXIST
        assert threads.commit_count == before
        assert session_record(engine, mount).last_op == 1
    async with running(engine) as server:
        assert (await mount.come_back(server, 2)).last_op == 1
        assert (await mount.do(mount.create(b"b"))).errno == 0
        assert session_record(engine, mount).last_op == 3
    assert_sound(engine)


async def test_a_failure_that_was_never_answered_is_found_again_after_a_restart() -> None:
    engine = MemoryEngine()
    async with running(engine) as server:
        mount = await Mount.arrive(server)
        await mount.do(mount.create(b"a"))
        exists = mount.number(mount.create(b"a"))
        await mount.send(exists)
    async with running(engine) as server:
        await mount.come_back(server, 2)
        assert errnos(await mount.send(exists)) == [errno.EEXIST]


async def test_failed_ops_are_forgotten_once_the_client_has_the_answer() -> None:
    engine = MemoryEngine()
    async with running(engine) as server:
        mount = await Mount.arrive(server)
        await mount.do(mount.create(b"a"))
        exists = mount.number(mount.create(b"a"))
        await mount.send(exists)
        await mount.send(mount.number(mount.create(b"b")))
        assert session_record(engine, mount).failed_ops == ((exists.number, errno.EEXIST),)
        mount.answered_below = 4
        await mount.send(mount.number(mount.create(b"c")))
        assert session_record(engine, mount).failed_ops == ()


async def test_numbers_that_leave_something_out_break_the_protocol() -> None:
    async with running(MemoryEngine()) as server:
        mount = await Mount.arrive(server)
        mount.number(mount.create(b"never sent"))
        with pytest.raises(RemoteProtocolError, match="op 2 came where 1 was expected"):
            await mount.send(mount.number(mount.create(b"a")))
        assert await names_of(mount, b"a") == [None]


async def test_inode_numbers_that_nobody_was_given_are_refused() -> None:
    async with running(MemoryEngine()) as server:
        mount = await Mount.arrive(server)
        mount.next_ino, mount.end_ino = mount.end_ino, mount.end_ino + 1
        assert (await mount.do(mount.create(b"a"))).errno == errno.EINVAL


async def test_a_full_disk_fails_its_batch_and_asks_for_what_stood_on_it_again() -> None:
    """Nothing of the failed batch remains in memory; the server lives on."""
    engine, threads = MemoryEngine(), Threads()
    async with running(engine, threads) as server, trio.open_nursery() as nursery:
        mount, other = await Mount.arrive(server), await Mount.arrive(server, 2)
        threads.hold_commits()
        below = [mount.number(mount.mkdir(b"d")), mount.number(mount.mkdir(b"d"))]
        failing = Background(nursery, lambda: mount.send(*below))
        await settle()
        on_top = mount.number(mount.create(b"f", parent=below[0].op.ino))  # type: ignore[union-attr]
        stacked = Background(nursery, lambda: mount.send(on_top))
        reading = Background(nursery, lambda: names_of(other, b"d"))
        others = Background(nursery, lambda: other.do(other.create(b"other")))
        await settle()
        threads.commit_errors.append(NoSpace("the disk is full"))
        threads.release_commits()
        await settle()
        assert [(o.errno, o.kind) for o in failing.result] == [(errno.ENOSPC, "NoSpace")] * 2
        assert isinstance(stacked.error, Overloaded)
        assert isinstance(others.error, Overloaded)
        assert reading.result == [None]
        # What was final stays final, also when it is sent again; the rest is done now.
        told = await mount.send(*below, on_top)
        assert errnos(told) == [errno.ENOSPC, errno.ENOSPC, errno.ESTALE]
        mount.answered_below = mount.next_number
        assert (await mount.do(mount.mkdir(b"d"))).errno == 0
        other.next_number = 1
        assert (await other.do(other.create(b"other"))).errno == 0
    assert_sound(engine)


async def test_what_was_sent_behind_dropped_ops_is_no_gap() -> None:
    engine, threads = MemoryEngine(), Threads()
    async with running(engine, threads) as server, trio.open_nursery() as nursery:
        mount = await Mount.arrive(server)
        ops = [mount.number(mount.create(b"%d" % n)) for n in range(4)]
        threads.hold_commits()
        first = Background(nursery, lambda: mount.send(ops[0]))
        await settle()
        second = Background(nursery, lambda: mount.send(ops[1]))
        await settle()
        threads.commit_errors.append(NoSpace("the disk is full"))
        threads.release_commits()
        await settle()
        assert errnos(first.result) == [errno.ENOSPC]
        assert isinstance(second.error, Overloaded)
        for late in ops[2:]:
            with pytest.raises(Overloaded):
                await mount.send(late)
        assert errnos(await mount.send(*ops)) == [errno.ENOSPC, 0, 0, 0]
    assert_sound(engine)


async def test_a_session_cannot_queue_up_without_bound() -> None:
    engine, threads = MemoryEngine(), Threads()
    async with running(engine, threads) as server, trio.open_nursery() as nursery:
        mount = await Mount.arrive(server)
        await mount.do(mount.create(b"a"))
        # Every op has to wait behind one whose records are fetched forever.
        threads.delay_s = lambda: 1e9
        ops = [mount.number(unlink(b"none")) for _ in range(OPS_IN_FLIGHT_MAX + 2)]
        Background(nursery, lambda: mount.send(ops[0]))
        await settle()
        full = Background(nursery, lambda: mount.send(*ops[1:]))
        await settle()
        assert isinstance(full.error, Overloaded)
        nursery.cancel_scope.cancel()


async def test_an_op_over_more_than_a_batch_is_cut_into_steps() -> None:
    """Truncating a file of very many extents, while another session goes on."""
    engine, threads = MemoryEngine(), Threads()
    async with running(engine, threads) as server, trio.open_nursery() as nursery:
        mount, other = await Mount.arrive(server), await Mount.arrive(server, 2)
        file = mount.create(b"big")
        await mount.do(file)
        for start in range(0, 1200, 100):
            ops = [
                mount.number(write_block(file.ino, n, offset=n * 131072))
                for n in range(start, start + 100)
            ]
            assert set(errnos(await mount.send(*ops))) == {0}
        mount.answered_below = mount.next_number
        truncate = SetAttr(credentials=USER, now_ns=NOW_NS, ino=file.ino, size=0)
        cut = Background(nursery, lambda: mount.do(truncate))
        assert (await other.do(other.create(b"meanwhile"))).errno == 0
        while not cut.is_over:
            await settle()
        assert cut.result.errno == 0
        assert cut.result.result.inode.size == 0
        assert cut.result.result.inode.stored_bytes == 0
    assert_sound(engine)


async def test_an_op_without_a_number_breaks_the_protocol() -> None:
    async with running(MemoryEngine()) as server:
        mount = await Mount.arrive(server)
        numbered = mount.number(mount.create(b"a"))
        with pytest.raises(RemoteProtocolError):
            await mount.send(type(numbered)(OpNumber(0), numbered.op))


async def test_a_create_told_again_holds_what_it_made() -> None:
    """The hold came with an answer that was lost with the server."""
    engine = MemoryEngine()
    async with running(engine) as server:
        mount = await Mount.arrive(server)
        create = mount.number(mount.create(b"a"), has_hold=True)
        await mount.send(create)
    async with running(engine) as server:
        other = await Mount.arrive(server, 7)
        await mount.come_back(server, 2)
        told = await mount.send(create)
        await other.do(unlink(b"a"))
        assert (await mount.getattr(ino_of(told[0]))).nlink == 0
        await mount.ask(Release(session_id=mount.session_id, inos=(InodeId(ino_of(told[0])),)))
        await settle()
        with pytest.raises(FsError, match="ESTALE"):
            await mount.getattr(ino_of(told[0]))
    assert_sound(engine)
