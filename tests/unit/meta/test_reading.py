"""Goal: whoever looks at what a session has exclusively sees what that session did by itself (I4).
Method: one session that has a directory alone, and another that looks at it in every way."""

from __future__ import annotations

import errno
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio

from dfs.core.messages import (
    ApplyOps,
    GetAttr,
    GetXattr,
    ListXattrs,
    Lookup,
    Open,
    ReadDirectory,
    ReadExtents,
)
from dfs.core.namespace.keys import dentry_key, inode_key, session_key, xattr_key
from dfs.core.namespace.ops import SetXattr
from dfs.core.namespace.records import Dentry, Inode, SessionRecord, Xattr
from dfs.core.namespace.view import ScanRange
from dfs.engine.memory_engine import MemoryEngine
from dfs.errors import FsError
from dfs.limits import FILE_BYTES_MAX
from dfs.meta.reading import Sightings
from dfs.types import ROOT, InodeId, SessionId
from tests.unit.core.namespace.volume import Volume
from tests.unit.meta.rig import (
    NOW_NS,
    USER,
    Background,
    Mount,
    Threads,
    assert_sound,
    chmod,
    leases_of,
    running,
    settle,
    unlink,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from dfs.core.leases import Leases
    from dfs.core.messages import MetaRequest

pytestmark = pytest.mark.usefixtures("autojump_clock")


class Scene:
    """`/d/f`, which `holder` has made and `other` does not know."""

    def __init__(self, holder: Mount, other: Mount, nursery: trio.Nursery) -> None:
        self.holder, self.other = holder, other
        self._nursery = nursery
        self.d = self.f = InodeId(0)

    async def make(self) -> None:
        directory = self.holder.mkdir(b"d")
        self.d = directory.ino
        await self.holder.do(directory)
        create = self.holder.create(b"f", parent=self.d)
        self.f = create.ino
        await self.holder.do(create)
        xattr = SetXattr(credentials=USER, now_ns=NOW_NS, ino=self.f, name=b"user.x", value=b"old")
        await self.holder.do(xattr)
        await self.holder.give_back(ROOT)

    def look(self, request: MetaRequest) -> Background:
        return Background(self._nursery, lambda: self.other.ask(request))

    def lookup(self, name: bytes) -> Background:
        return self.look(Lookup(session_id=self.other.session_id, parent=self.d, name=name))

    async def share(self) -> None:
        """The holder hears that somebody looks, and answers."""
        recalls = await self.holder.hear_recalls()
        assert recalls
        assert all(recall.is_shared for recall in recalls)
        await self.holder.answer(*recalls)
        await settle()

    def is_exclusive(self, ino: InodeId) -> bool:
        return self.leases.is_exclusive(self.holder.session_id, ino)

    @property
    def leases(self) -> Leases:
        return leases_of(self.holder.server)


@asynccontextmanager
async def scene(threads: Threads | None = None) -> AsyncIterator[Scene]:
    engine = MemoryEngine()
    async with running(engine, threads) as server, trio.open_nursery() as nursery:
        holder = await Mount.arrive(server, 1, wants_leases=True)
        other = await Mount.arrive(server, 2, wants_leases=True)
        it = Scene(holder, other, nursery)
        await it.make()
        yield it
        nursery.cancel_scope.cancel()
    assert_sound(engine)


LOOKS: dict[str, Callable[[Scene], MetaRequest]] = {
    "getattr": lambda s: GetAttr(ino=s.f),
    "a lookup that leases": lambda s: Lookup(session_id=s.other.session_id, parent=s.d, name=b"f"),
    "a lookup by nobody": lambda s: Lookup(parent=s.d, name=b"f"),
    "open": lambda s: Open(session_id=s.other.session_id, ino=s.f),
    "extents": lambda s: ReadExtents(ino=s.f, start=0, end=FILE_BYTES_MAX),
    "a listing": lambda s: ReadDirectory(session_id=s.other.session_id, ino=s.d),
    "an xattr": lambda s: GetXattr(ino=s.f, name=b"user.x"),
    "the names of xattrs": lambda s: ListXattrs(ino=s.f),
}


def seen_mode(reply: Any) -> int | None:
    inode = getattr(reply, "inode", None)
    if inode is None and hasattr(reply, "entries"):
        [entry] = reply.entries
        inode = entry.inode
    return inode.mode & 0o7777 if inode is not None else None


@pytest.mark.parametrize("how", LOOKS)
async def test_who_looks_waits_and_sees_what_the_holder_did(how: str) -> None:
    """Method: the holder hears of it, and tells of an op that it did by itself, before it answers;
    what it knows stays leased to it."""
    async with scene() as it:
        looking = it.look(LOOKS[how](it))
        await settle()
        assert not looking.is_over
        recalls = await it.holder.hear_recalls()
        assert all(recall.is_shared for recall in recalls)
        await it.holder.do(chmod(it.f, 0o751), is_foreseen=True)
        await settle()
        assert not looking.is_over
        await it.holder.answer(*recalls)
        await settle()
        if not looking.is_over:
            await it.share()
        assert seen_mode(looking.result) in (0o751, None)
        assert not it.is_exclusive(it.f)
        assert it.leases.has(it.holder.session_id, it.f)
        again = it.look(LOOKS[how](it))
        await settle()
        assert again.is_over, "it is shared now"
        assert await it.holder.hear_recalls() == ()


async def test_its_holder_looks_without_being_asked() -> None:
    async with scene() as it:
        assert (await it.holder.lookup(b"f", it.d)).is_leased
        assert await it.holder.remember(it.f)
        await it.holder.open(it.f)
        assert it.is_exclusive(it.f)
        assert it.is_exclusive(it.d)
        assert await it.holder.hear_recalls() == ()


@pytest.mark.parametrize("is_listed", [False, True])
async def test_what_is_in_an_exclusive_directory_is_exclusive_to_whoever_has_that(
    is_listed: bool,
) -> None:
    """Method: the holder has given the file back, and finds it again."""
    async with scene() as it:
        await it.holder.give_back(it.f)
        if is_listed:
            request = ReadDirectory(session_id=it.holder.session_id, ino=it.d)
            assert (await it.holder.ask(request)).exclusive == (it.f,)
        else:
            assert (await it.holder.lookup(b"f", it.d)).is_exclusive
        assert it.is_exclusive(it.f)


async def test_what_others_have_leased_is_not_exclusive_though_the_directory_is() -> None:
    async with scene() as it:
        await it.holder.give_back(it.f)
        assert await it.other.remember(it.f)
        reply = await it.holder.lookup(b"f", it.d)
        assert (reply.is_leased, reply.is_exclusive) == (True, False)
        listed = await it.holder.ask(ReadDirectory(session_id=it.holder.session_id, ino=it.d))
        assert (listed.is_leased, listed.exclusive) == (True, ())
        assert not it.is_exclusive(it.f)


async def test_nothing_is_exclusive_below_what_is_shared() -> None:
    async with scene() as it:
        looking = it.lookup(b"f")
        await settle()
        await it.share()
        if not looking.is_over:
            await it.share()
        await it.holder.give_back(it.f)
        await it.other.give_back(it.f)
        assert not (await it.holder.lookup(b"f", it.d)).is_exclusive


@pytest.mark.parametrize("is_theirs", [False, True])
async def test_what_is_wanted_is_given_where_nobody_else_has_it(is_theirs: bool) -> None:
    """Method: `other` has looked at all of it, and changes something."""
    async with scene() as it:
        looking = it.lookup(b"f")
        await settle()
        while not looking.is_over:
            await it.share()
        if not is_theirs:
            await it.holder.give_back(it.f, it.d)
        numbered = it.other.number(chmod(ROOT, 0o711))
        wanted = (it.f, it.d, InodeId(it.f + 99))
        reply = await it.other.ask(
            ApplyOps(session_id=it.other.session_id, ops=(numbered,), wanted=wanted)
        )
        assert reply.upgraded == (() if is_theirs else (it.f, it.d))
        for ino in (it.f, it.d):
            assert it.leases.is_exclusive(it.other.session_id, ino) != is_theirs


async def test_who_finds_nothing_waits_too() -> None:
    """Goal: the name may have been made. Method: it is, while somebody looks for it."""
    async with scene() as it:
        looking = it.lookup(b"new")
        await settle()
        assert not looking.is_over
        create = it.holder.create(b"new", parent=it.d)
        await it.holder.do(create, is_foreseen=True)
        await it.share()
        assert not looking.is_over, "what was made is its maker's alone, too"
        await it.share()
        assert looking.result.inode.ino == create.ino


async def test_who_finds_something_waits_though_it_is_gone() -> None:
    async with scene() as it:
        looking, getting = it.lookup(b"f"), it.look(GetAttr(ino=it.f))
        await settle()
        await it.holder.do(unlink(b"f", parent=it.d), is_foreseen=True)
        await settle()
        assert not looking.is_over
        await it.share()
        assert looking.result.inode is None
        assert looking.result.is_entry_leased
        assert isinstance(getting.error, FsError)
        assert getting.error.errno == errno.ESTALE


async def test_an_open_that_waits_holds_the_file_already() -> None:
    """Goal: its holder may remove the last name meanwhile; what is open lives on (I6)."""
    async with scene() as it:
        opening = it.look(Open(session_id=it.other.session_id, ino=it.f))
        await settle()
        await it.holder.do(unlink(b"f", parent=it.d), is_foreseen=True)
        await it.share()
        assert opening.result.inode.nlink == 0


async def test_who_looks_at_several_waits_for_the_holders_of_all() -> None:
    """Method: a listing of a directory that is shared, with files of two sessions."""
    async with scene() as it:
        third = await Mount.arrive(it.holder.server, 3, wants_leases=True)
        making = Background(it._nursery, lambda: third.do(third.create(b"g", parent=it.d)))
        await settle()
        recalls = await it.holder.hear_recalls()
        await it.holder.answer(*recalls)
        await settle()
        while not making.is_over:
            await it.holder.answer(*await it.holder.hear_recalls())
            await settle()
        listing = it.look(ReadDirectory(session_id=it.other.session_id, ino=it.d))
        await settle()
        while not listing.is_over:
            answers = [(mount, await mount.hear_recalls()) for mount in (it.holder, third)]
            assert any(recalls for _, recalls in answers)
            for mount, told in answers:
                await mount.answer(*told)
            await settle()
        assert [entry.name for entry in listing.result.entries] == [b"f", b"g"]
        assert listing.result.is_leased


@pytest.mark.parametrize("end", ["back", "silent"])
async def test_a_holder_that_is_over_is_waited_for_no_longer(end: str) -> None:
    """Goal: it returns without what it had, or its session ends."""
    async with scene() as it:
        looking = it.look(GetAttr(ino=it.f))
        await settle()
        if end == "back":
            await it.holder.come_back(it.holder.server, 9, wants_leases=True)
        else:
            for _ in range(20):
                await trio.sleep(5)
                await it.other.keep_alive()
        await settle()
        assert looking.result.inode.ino == it.f


async def test_what_is_looked_at_is_given_to_nobody_before() -> None:
    """Goal: its holder does not get it exclusively again until it was looked at. Method: the holder
    changes it, asking the server, between the recall and its answer."""
    async with scene() as it:
        looking = it.look(GetAttr(ino=it.f))
        await settle()
        recalls = await it.holder.hear_recalls()
        changing = Background(it._nursery, lambda: it.holder.do(chmod(it.f)))
        await it.holder.answer(*recalls)
        await settle()
        assert looking.is_over
        assert changing.is_over
        assert not it.is_exclusive(it.f)
        assert it.holder.told_exclusive == []


async def test_an_op_waits_for_what_it_only_looks_at() -> None:
    """Goal: its answer depends on that, too. Method: a name in a directory that somebody else has
    alone is removed by its holder, and its other user finds it gone."""
    async with scene() as it:
        removing = Background(it._nursery, lambda: it.other.do(unlink(b"f", parent=it.d)))
        await settle()
        assert not removing.is_over
        await it.holder.do(unlink(b"f", parent=it.d), is_foreseen=True)
        while not removing.is_over:
            await it.holder.answer(*await it.holder.hear_recalls())
            await settle()
        assert removing.result.errno == errno.ENOENT


async def test_an_op_that_would_fail_waits_too() -> None:
    """Goal: a failure is an answer. Method: a file where another session's holder makes room."""
    async with scene() as it:
        making = Background(it._nursery, lambda: it.other.do(it.other.create(b"f", parent=it.d)))
        await settle()
        assert not making.is_over
        await it.holder.do(unlink(b"f", parent=it.d), is_foreseen=True)
        while not making.is_over:
            await it.holder.answer(*await it.holder.hear_recalls())
            await settle()
        assert making.result.errno == 0


# ---------------------------------------------------------------- sightings


def test_a_view_notes_whose_records_were_looked_at() -> None:
    """Goal: all that leases cover, found or not, and nothing else."""
    volume = Volume()
    directory = volume.mkdir(ROOT, b"d")
    file = volume.create(directory.ino, b"f")
    seen = Sightings(volume)
    assert seen.get(inode_key(file.ino), Inode) == file
    assert seen.get(dentry_key(directory.ino, b"none"), Dentry) is None
    assert seen.get(xattr_key(InodeId(77), b"user.x"), Xattr) is None
    assert seen.get(session_key(SessionId(1)), SessionRecord) is None
    assert list(seen.inos) == [file.ino, directory.ino, InodeId(77)]
    start, end = dentry_key(ROOT, b"a"), dentry_key(ROOT, b"z")
    [(_, entry)] = seen.scan(ScanRange(start, end, 10), Dentry)
    assert entry.ino == directory.ino
    assert list(seen.inos)[-1] == ROOT
