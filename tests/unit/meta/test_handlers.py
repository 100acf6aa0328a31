from __future__ import annotations

import errno
from typing import Any

import pytest
import trio

from dfs.core import leases
from dfs.core.messages import (
    CloseSession,
    GetAttr,
    GetRecords,
    GetStatus,
    GetXattr,
    KeepAlive,
    ListXattrs,
    Lookup,
    ReadDirectory,
    ReadExtents,
    StatFs,
)
from dfs.core.namespace.keys import FENCE_KEY
from dfs.core.namespace.ops import CommitData, Piece, SetAttr, SetXattr
from dfs.engine.memory_engine import MemoryEngine
from dfs.errors import Fenced, FsError
from dfs.limits import EXTENTS_PER_REPLY_MAX, FILE_BYTES_MAX, READDIR_ENTRIES_MAX
from dfs.types import ROOT, InodeId, MapEpoch
from tests.unit.meta.rig import (
    NOW_NS,
    USER,
    Mount,
    Threads,
    assert_sound,
    block_id,
    running,
    unlink,
    write_block,
)


async def refused(mount: Mount, request: Any) -> int:
    """The errno that the request is answered with."""
    with pytest.raises(FsError) as caught:
        await mount.ask(request)
    return caught.value.errno


async def files_in(mount: Mount, parent: InodeId, count: int) -> None:
    for start in range(0, count, 200):
        names = range(start, min(count, start + 200))
        ops = [mount.number(mount.create(b"%06d" % n, parent=parent)) for n in names]
        assert {outcome.errno for outcome in await mount.send(*ops)} == {0}
        mount.answered_below = mount.next_number


async def test_a_directory_is_listed_page_by_page_with_attributes() -> None:
    """One message and, from a cold start, two engine calls per thousand entries."""
    engine = MemoryEngine()
    async with running(engine) as server:
        mount = await Mount.arrive(server)
        directory = mount.mkdir(b"d")
        await mount.do(directory)
        await files_in(mount, directory.ino, 2 * READDIR_ENTRIES_MAX + 5)
    threads = Threads()
    async with running(engine, threads) as server:
        before, names, after, is_last, messages = threads.read_count, list[bytes](), b"", False, 0
        while not is_last:
            reply = await mount_at(mount, server).ask(
                ReadDirectory(ino=directory.ino, after=after, limit=5000)
            )
            messages += 1
            assert len(reply.entries) <= READDIR_ENTRIES_MAX
            assert all(entry.inode.nlink == 1 for entry in reply.entries)
            names += [entry.name for entry in reply.entries]
            after, is_last = names[-1], reply.is_last
        assert names == [b"%06d" % n for n in range(2 * READDIR_ENTRIES_MAX + 5)]
        assert messages == 3
        assert threads.read_count - before <= 3 * messages
    assert_sound(engine)


def mount_at(mount: Mount, server: Any) -> Mount:
    mount.server = server
    return mount


async def test_the_last_page_says_so_even_when_it_is_full() -> None:
    async with running(MemoryEngine()) as server:
        mount = await Mount.arrive(server)
        assert (await mount.ask(ReadDirectory(ino=ROOT))).is_last
        await files_in(mount, ROOT, 10)
        full = await mount.ask(ReadDirectory(ino=ROOT, limit=10))
        assert (len(full.entries), full.is_last) == (10, True)
        part = await mount.ask(ReadDirectory(ino=ROOT, limit=9))
        assert (len(part.entries), part.is_last) == (9, False)


async def test_many_extents_come_in_parts() -> None:
    engine = MemoryEngine()
    count = EXTENTS_PER_REPLY_MAX + 100
    async with running(engine) as server:
        mount = await Mount.arrive(server)
        file = mount.create(b"a")
        await mount.do(file)
        for start in range(0, count, 100):
            pieces = tuple(
                Piece(offset=n * 8192, length=4096, block_id=block_id(1), block_length=4096)
                for n in range(start, min(start + 100, count))
            )
            op = CommitData(credentials=USER, now_ns=NOW_NS, ino=file.ino, pieces=pieces)
            assert (await mount.do(op)).errno == 0
        opened = await mount.open(file.ino)
        assert (len(opened.extents), opened.is_complete) == (EXTENTS_PER_REPLY_MAX, False)
        first = await mount.ask(ReadExtents(ino=file.ino, start=0, end=FILE_BYTES_MAX))
        assert first.end == count * 8192 - 100 * 8192
        rest = await mount.ask(ReadExtents(ino=file.ino, start=first.end, end=FILE_BYTES_MAX))
        assert rest.end == FILE_BYTES_MAX
        offsets = [extent.offset for extent in (*first.extents, *rest.extents)]
        assert offsets == [n * 8192 for n in range(count)]
        middle = await mount.ask(ReadExtents(ino=file.ino, start=4096, end=8193))
        assert [extent.offset for extent in middle.extents] == [8192]
    assert_sound(engine)


async def test_opening_a_small_file_brings_its_content() -> None:
    async with running(MemoryEngine()) as server:
        mount = await Mount.arrive(server)
        file = mount.create(b"a")
        await mount.do(file)
        assert (await mount.open(file.ino)).extents == ()
        piece = Piece(offset=0, length=5, inline=b"hello")
        op = CommitData(credentials=USER, now_ns=NOW_NS, ino=file.ino, pieces=(piece,))
        await mount.do(op)
        opened = await mount.open(file.ino)
        assert [extent.inline for extent in opened.extents] == [b"hello"]
        assert opened.is_complete
        directory = await mount.open(ROOT)
        assert (directory.extents, directory.is_complete) == ((), True)


async def test_extended_attributes_are_read() -> None:
    async with running(MemoryEngine()) as server:
        mount = await Mount.arrive(server)
        file = mount.create(b"a")
        await mount.do(file)
        assert (await mount.ask(ListXattrs(ino=file.ino))).names == ()
        for name in (b"user.b", b"user.a"):
            op = SetXattr(credentials=USER, now_ns=NOW_NS, ino=file.ino, name=name, value=name * 2)
            assert (await mount.do(op)).errno == 0
        assert (await mount.ask(ListXattrs(ino=file.ino))).names == (b"user.a", b"user.b")
        assert (await mount.ask(GetXattr(ino=file.ino, name=b"user.a"))).value == b"user.auser.a"
        assert await refused(mount, GetXattr(ino=file.ino, name=b"user.c")) == errno.ENODATA


@pytest.mark.parametrize("ino", [0, -1, 1 << 70, 12345])
async def test_inode_numbers_that_lead_nowhere_are_stale(ino: int) -> None:
    async with running(MemoryEngine()) as server:
        mount = await Mount.arrive(server)
        nowhere = InodeId(ino)
        for request in (
            GetAttr(ino=nowhere),
            Lookup(parent=nowhere, name=b"a"),
            ReadExtents(ino=nowhere, start=0, end=1),
            ReadDirectory(ino=nowhere),
            GetXattr(ino=nowhere, name=b"user.a"),
            ListXattrs(ino=nowhere),
        ):
            assert await refused(mount, request) == errno.ESTALE
        with pytest.raises(FsError, match="ESTALE"):
            await mount.open(ino)
        outcome = await mount.do(SetAttr(credentials=USER, now_ns=NOW_NS, ino=nowhere, mode=0))
        assert outcome.errno in (errno.ESTALE, errno.EINVAL)
        assert (await mount.do(write_block(nowhere, 1))).errno in (errno.ESTALE, errno.EINVAL)


async def test_requests_that_make_no_sense_are_refused() -> None:
    async with running(MemoryEngine()) as server:
        mount = await Mount.arrive(server)
        assert await refused(mount, Lookup(parent=ROOT, name=b"x" * 256)) == errno.ENAMETOOLONG
        assert await refused(mount, Lookup(parent=ROOT, name=b"")) == errno.ENOENT
        assert await refused(mount, ReadDirectory(ino=ROOT, after=b"x" * 300)) == errno.EINVAL
        assert await refused(mount, ReadDirectory(ino=ROOT, limit=0)) == errno.EINVAL
        for start, end in ((-1, 5), (6, 5), (0, 1 << 65)):
            request = ReadExtents(ino=ROOT, start=start, end=end)
            assert await refused(mount, request) == errno.EINVAL
        assert await refused(mount, GetRecords(keys=())) == errno.EINVAL
        assert await refused(mount, GetRecords(keys=(b"",))) == errno.EINVAL
        assert await refused(mount, GetRecords(keys=(bytes(600),))) == errno.EINVAL
        with pytest.raises(FsError, match="ESTALE"):
            await mount.come_back(server, 2, held=(0,))


async def test_status_tells_what_people_ask_for() -> None:
    async with running(MemoryEngine()) as server:
        mount = await Mount.arrive(server)
        create = mount.create(b"a")
        await mount.do(create, has_hold=True)
        status = await mount.ask(GetStatus())
        assert (status.inode_count, status.garbage_count, status.orphan_count) == (2, 0, 0)
        [session] = status.sessions
        assert (session.held_count, session.last_op, session.client) == (1, 1, "mount 1")
        assert status.version
        assert (await mount.ask(StatFs())).inode_count == 2


async def test_committed_records_are_given_as_they_are() -> None:
    engine = MemoryEngine()
    async with running(engine) as server:
        mount = await Mount.arrive(server)
        reply = await mount.ask(GetRecords(keys=(FENCE_KEY, b"\0\0Cabsent")))
        assert reply.rows == ((FENCE_KEY, engine.get([FENCE_KEY])[0]),)


# ---------------------------------------------------------------- leases (I4)


async def test_a_lookup_leases_the_name_and_what_it_leads_to() -> None:
    async with running(MemoryEngine()) as server:
        mount = await Mount.arrive(server, wants_leases=True)
        create = mount.create(b"a")
        await mount.do(create)
        reply = await mount.lookup(b"a")
        assert (reply.is_leased, reply.is_entry_leased) == (True, True)
        assert reply.inode is not None
        assert reply.inode.ino == create.ino
        reply = await mount.lookup(b"none")
        assert (reply.inode, reply.is_leased, reply.is_entry_leased) == (None, False, True)


async def test_who_asks_in_nobodys_name_gets_no_lease() -> None:
    async with running(MemoryEngine()) as server:
        mount = await Mount.arrive(server, wants_leases=True)
        create = mount.create(b"a")
        await mount.do(create)
        reply = await mount.ask(Lookup(parent=ROOT, name=b"a"))
        assert (reply.is_leased, reply.is_entry_leased) == (False, False)
        assert not (await mount.ask(GetAttr(ino=create.ino))).is_leased
        assert not (await mount.ask(ReadDirectory(ino=ROOT))).is_leased
        assert await refused(mount, Lookup(parent=ROOT, name=b"none")) == errno.ENOENT


async def test_an_ended_session_is_told_so_also_by_reads() -> None:
    async with running(MemoryEngine()) as server:
        mount = await Mount.arrive(server)
        await mount.ask(CloseSession(session_id=mount.session_id))
        for request in (
            Lookup(session_id=mount.session_id, parent=ROOT, name=b"a"),
            GetAttr(session_id=mount.session_id, ino=ROOT),
            ReadDirectory(session_id=mount.session_id, ino=ROOT),
        ):
            with pytest.raises(Fenced):
                await mount.ask(request)


async def test_beyond_its_limit_a_session_gets_answers_and_no_leases(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Goal: a full table costs leases, not answers; what is given back makes room."""
    monkeypatch.setattr(leases, "LEASES_PER_SESSION_MAX", 1)
    async with running(MemoryEngine()) as server:
        mount = await Mount.arrive(server, wants_leases=True)
        create = mount.create(b"a")
        await mount.do(create)
        assert await mount.remember(create.ino)
        reply = await mount.lookup(b"a")
        assert (reply.is_leased, reply.is_entry_leased) == (True, False)
        absent = Lookup(session_id=mount.session_id, parent=ROOT, name=b"none")
        assert await refused(mount, absent) == errno.ENOENT
        assert not (await mount.ask(ReadDirectory(session_id=mount.session_id, ino=ROOT))).is_leased
        await mount.ask(
            KeepAlive(session_id=mount.session_id, map_epoch=MapEpoch(0), given_back=(create.ino,))
        )
        assert (await mount.lookup(b"none")).is_entry_leased


async def test_an_inode_without_a_name_is_not_leased() -> None:
    """Goal: the reaper takes orphans apart without asking anyone. Method: one that is held open."""
    async with running(MemoryEngine()) as server:
        mount = await Mount.arrive(server, wants_leases=True)
        create = mount.create(b"a")
        await mount.do(create, has_hold=True)
        assert await mount.remember(create.ino)
        await mount.come_back(server, 2, held=(create.ino,), wants_leases=True)
        await mount.do(unlink(b"a"))
        assert not await mount.remember(create.ino)


async def test_a_page_of_a_directory_is_leased_whole_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running(MemoryEngine()) as server:
        mount = await Mount.arrive(server, wants_leases=True)
        other = await Mount.arrive(server, 2, wants_leases=True)
        await files_in(mount, ROOT, 3)
        reply = await mount.ask(ReadDirectory(session_id=mount.session_id, ino=ROOT))
        assert reply.is_leased
        await mount.give_back(ROOT, *(entry.inode.ino for entry in reply.entries))
        monkeypatch.setattr(leases, "LEASES_PER_SESSION_MAX", 3)
        page = ReadDirectory(session_id=other.session_id, ino=ROOT)
        assert not (await other.ask(page)).is_leased


async def test_a_keep_alive_waits_for_recalls_no_longer_than_it_was_asked_to(
    autojump_clock: object,
) -> None:
    """Goal: nor so long that the session would end of it. Method: waits of three lengths."""
    async with running(MemoryEngine(), session_ttl_s=20) as server:
        mount = await Mount.arrive(server, wants_leases=True)
        for wait_s, expected_s in ((0, 0), (2, 2), (1000, 5)):
            began_s = trio.current_time()
            assert await mount.hear_recalls(wait_s) == ()
            assert trio.current_time() - began_s == pytest.approx(expected_s)
