"""Goal: an op waits for those who remember what it changes, and leaves no claim behind (I4, I8).
Method: sessions that hear recalls and answer when the test says so."""

from __future__ import annotations

import errno
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from dfs.core.messages import CloseSession, Lookup
from dfs.core.namespace.ops import Link, SetAttr
from dfs.engine.memory_engine import MemoryEngine
from dfs.errors import Fenced, FsError, NoSpace, Overloaded
from dfs.types import ROOT
from tests.unit.meta.rig import (
    NOW_NS,
    USER,
    Background,
    Mount,
    Threads,
    assert_sound,
    errnos,
    running,
    settle,
    unlink,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dfs.core.messages import InodeReply
    from dfs.types import InodeId


async def names_of(mount: Mount, *names: bytes) -> list[InodeId | None]:
    """What the names lead to; asked in nobody's name, so that nothing is leased."""
    found: list[InodeId | None] = []
    for name in names:
        try:
            found.append(inode_of(await mount.ask(Lookup(parent=ROOT, name=name))))
        except FsError as error:
            if error.errno != errno.ENOENT:
                raise
            found.append(None)
    return found


@asynccontextmanager
async def reader_and_writer(
    threads: Threads | None = None,
) -> AsyncIterator[tuple[Mount, Mount, trio.Nursery]]:
    """Two mounts that remember what they may. The file `a` is there, and leased to nobody."""
    engine = MemoryEngine()
    async with running(engine, threads) as server, trio.open_nursery() as nursery:
        reader = await Mount.arrive(server, 1, wants_leases=True)
        writer = await Mount.arrive(server, 2, wants_leases=True)
        create = writer.create(b"a")
        assert (await writer.do(create)).errno == 0
        await writer.give_back(ROOT, create.ino)
        yield reader, writer, nursery
        nursery.cancel_scope.cancel()
    assert_sound(engine)


def inode_of(reply: InodeReply) -> InodeId:
    assert reply.inode is not None
    return reply.inode.ino


async def test_an_op_waits_until_who_remembers_has_forgotten() -> None:
    """Goal: the change happens after the answer, and the ops behind it after it. Method: one who
    remembers the name and hears what to forget, but answers late."""
    async with reader_and_writer() as (reader, writer, nursery):
        ino = inode_of(await reader.lookup(b"a"))
        ops = [writer.number(unlink(b"a")), writer.number(writer.mkdir(b"d"))]
        sending = Background(nursery, lambda: writer.send(*ops))
        await settle()
        recalls = await reader.hear_recalls()
        assert [recall.touched for recall in recalls] == [{ino: (), ROOT: (b"a",)}]
        assert await names_of(writer, b"a", b"d") == [ino, None]
        assert not (await reader.lookup(b"a")).is_entry_leased
        await reader.answer(*recalls)
        await settle()
        assert await names_of(writer, b"a", b"d") == [None, None]
        recalls = await reader.hear_recalls()
        assert [recall.touched for recall in recalls] == [{ROOT: (b"d",)}]
        await reader.answer(*recalls)
        await settle()
        assert errnos(sending.result) == [0, 0]
        assert await names_of(writer, b"a", b"d") == [None, sending.result[1].result.inode.ino]
        assert (await reader.lookup(b"a")).is_entry_leased, "the claim is gone with the change"


async def test_an_absent_name_is_recalled_too() -> None:
    async with reader_and_writer() as (reader, writer, nursery):
        assert (await reader.lookup(b"new")).is_entry_leased
        making = Background(nursery, lambda: writer.do(writer.mkdir(b"new")))
        await settle()
        recalls = await reader.hear_recalls()
        assert [recall.touched for recall in recalls] == [{ROOT: (b"new",)}]
        assert not making.is_over
        await reader.answer(*recalls)
        await settle()
        assert making.result.errno == 0


async def test_what_an_op_names_is_not_recalled_from_its_own_session() -> None:
    async with reader_and_writer() as (_, writer, _):
        ino = inode_of(await writer.lookup(b"a"))
        assert (await writer.lookup(b"b")).is_entry_leased
        assert (
            await writer.do(Link(credentials=USER, now_ns=NOW_NS, ino=ino, parent=ROOT, name=b"b"))
        ).errno == 0
        assert (
            await writer.do(SetAttr(credentials=USER, now_ns=NOW_NS, ino=ino, mode=0o600))
        ).errno == 0
        assert await writer.hear_recalls() == ()


@pytest.mark.parametrize("is_given_back", [False, True])
async def test_what_an_op_does_not_name_is_recalled_from_its_own_session(
    is_given_back: bool,
) -> None:
    """Goal: unless it came given back. Method: unlink a file that its own session remembers."""
    async with reader_and_writer() as (_, writer, nursery):
        ino = inode_of(await writer.lookup(b"a"))
        op = writer.number(unlink(b"a"))
        given_back = (ino,) if is_given_back else ()
        sending = Background(nursery, lambda: writer.send(op, given_back=given_back))
        await settle()
        assert sending.is_over is is_given_back
        if not is_given_back:
            recalls = await writer.hear_recalls()
            assert [recall.touched for recall in recalls] == [{ino: ()}]
            await writer.answer(*recalls)
            await settle()
        assert errnos(sending.result) == [0]


async def test_an_op_that_waits_and_then_fails_leaves_no_claim() -> None:
    """Method: two sessions unlink one name; both wait for the one that remembers it."""
    async with reader_and_writer() as (reader, writer, nursery):
        other = await Mount.arrive(writer.server, 3)
        await reader.lookup(b"a")
        both = [Background(nursery, lambda m=m: m.do(unlink(b"a"))) for m in (writer, other)]
        await settle()
        recalls = await reader.hear_recalls()
        assert len(recalls) == 2
        await reader.answer(*recalls)
        await settle()
        assert sorted(each.result.errno for each in both) == [0, errno.ENOENT]
        assert (await reader.lookup(b"a")).is_entry_leased


async def test_a_writer_that_leaves_while_its_op_waits_leaves_no_claim() -> None:
    """Goal: what was not changed may be remembered again, and the late answer takes nothing back.
    Method: the writer's session ends between the recall and its answer."""
    async with reader_and_writer() as (reader, writer, nursery):
        ino = inode_of(await reader.lookup(b"a"))
        sending = Background(nursery, lambda: writer.do(unlink(b"a")))
        await settle()
        recalls = await reader.hear_recalls()
        await writer.ask(CloseSession(session_id=writer.session_id))
        await settle()
        assert isinstance(sending.error, Fenced)
        assert await reader.remember(ino)
        await reader.answer(*recalls)
        other = await Mount.arrive(writer.server, 3)
        late = Background(nursery, lambda: other.do(unlink(b"a")))
        await settle()
        assert not late.is_over
        assert len(await reader.hear_recalls()) == 1


async def test_an_op_that_is_sent_again_while_it_waits_makes_way_again() -> None:
    """Goal: a claim goes with the op that left the queue, and comes with it again. Method: the
    batch below it cannot be written while it waits for an answer."""
    threads = Threads()
    async with reader_and_writer(threads) as (reader, writer, nursery):
        [ino] = await names_of(writer, b"a")
        assert ino is not None
        assert await reader.remember(ino)
        threads.hold_commits()
        threads.commit_errors += [NoSpace("full")]
        ops = [writer.number(op) for op in (writer.mkdir(b"d"), writer.mkdir(b"e"), unlink(b"a"))]
        each = []
        for op in ops:
            each.append(Background(nursery, lambda op=op: writer.send(op)))
            await settle()
        recalls = await reader.hear_recalls()
        assert len(recalls) == 1
        threads.release_commits()
        await settle()
        assert errnos(each[0].result) == [errno.ENOSPC]
        assert isinstance(each[1].error, Overloaded)
        assert isinstance(each[2].error, Overloaded)
        assert await reader.remember(ino)
        await reader.answer(*recalls)
        again = Background(nursery, lambda: writer.send(*ops))
        await settle()
        assert not again.is_over
        await reader.answer(*await reader.hear_recalls())
        await settle()
        assert errnos(again.result) == [errno.ENOSPC, 0, 0]
