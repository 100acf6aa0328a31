"""Goal: what was done here and the server does not know yet is neither lost nor hidden, and ends
with a recall (I4). Method: a cache beside a volume that is ahead of the server."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from dfs.client.lease import NOTHING
from dfs.client.record_cache import RecordCache
from dfs.core.leases import touched_by
from dfs.core.messages import Recall
from dfs.core.namespace.keys import dentry_key, inode_key
from dfs.core.namespace.ops import SetAttr
from dfs.core.namespace.records import Dentry
from dfs.limits import NAME_BYTES_MAX
from dfs.types import ROOT, Credentials, InodeId
from tests.unit.client.leased import FOR_EVER, Leased
from tests.unit.core.namespace.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dfs.core.namespace.records import Inode, Record

pytestmark = pytest.mark.usefixtures("autojump_clock")


def take(records: RecordCache, changes: Mapping[bytes, Record | None]) -> list[InodeId]:
    """As of an op that was done here. Returns what it touches."""
    touched = touched_by(changes)
    records.take(changes, touched)
    return list(touched)


class Scene(Leased):
    """`/d` with the files `a` and `b`, of which nothing is known."""

    def __init__(self, **bounds: int) -> None:
        super().__init__(Volume(), RecordCache(**bounds))
        self.d = self.volume.mkdir(ROOT, b"d").ino
        self.a = self.volume.create(self.d, b"a").ino
        self.b = self.volume.create(self.d, b"b").ino

    def newer(self, ino: InodeId) -> Inode:
        """The inode as an op that is done here leaves it."""
        inode = self.volume.inode(ino)
        newer = replace(inode, ctime_ns=inode.ctime_ns + 1)
        self.volume.records[inode_key(ino)] = newer
        return newer

    def change(self, ino: InodeId) -> list[InodeId]:
        return take(self.records, {inode_key(ino): self.newer(ino)})

    def recall(self, ino: InodeId, *names: bytes, is_shared: bool = False) -> None:
        self.records.recall(Recall(1, {ino: names}, is_shared))


# ---------------------------------------------------------------- whose it is


async def test_what_somebody_looks_at_is_shared_and_still_known() -> None:
    scene = Scene()
    scene.alone(scene.d, scene.a)
    scene.learn_name(scene.d, b"a")
    assert scene.records.is_exclusive(scene.d)
    scene.recall(scene.d, is_shared=True)
    assert not scene.records.is_exclusive(scene.d)
    assert scene.records.is_exclusive(scene.a)
    assert scene.records.entry(scene.d, b"a") == scene.a
    assert scene.records.inode(scene.d) == scene.volume.inode(scene.d)


async def test_what_somebody_changes_a_name_of_is_no_longer_ones_own() -> None:
    scene = Scene()
    scene.alone(scene.d)
    scene.learn_name(scene.d, b"a")
    scene.learn_name(scene.d, b"b")
    scene.recall(scene.d, b"a")
    assert not scene.records.is_exclusive(scene.d)
    assert scene.records.entry(scene.d, b"a") is None
    assert scene.records.entry(scene.d, b"b") == scene.b


async def test_nothing_is_ones_own_once_the_session_may_have_ended() -> None:
    scene = Scene()
    scene.alone(scene.a)
    scene.records.good_until_s = 0.0
    assert not scene.records.is_exclusive(scene.a)


async def test_an_answer_that_a_recall_has_overtaken_makes_nothing_ones_own() -> None:
    """Goal: also if somebody only looks at it. Method: recalls between question and answer."""
    scene = Scene()
    inodes = [scene.volume.inode(ino) for ino in (scene.d, scene.a, scene.b)]
    with scene.records.asking() as question:
        scene.recall(scene.a, is_shared=True)
        scene.recall(scene.b)
        assert scene.records.not_recalled(question, inodes) == inodes[:1]


async def test_what_an_own_op_is_changing_is_not_taken_for_known() -> None:
    scene = Scene()
    op = SetAttr(credentials=Credentials(0, 0), now_ns=0, ino=scene.a)
    scene.records.begin(op)
    scene.alone(scene.a)
    assert not scene.records.is_exclusive(scene.a)
    scene.records.end(op)
    scene.alone(scene.a)
    assert scene.records.is_exclusive(scene.a)


# ---------------------------------------------------------------- directories known whole


async def test_a_directory_that_is_known_whole_has_no_other_names() -> None:
    scene = Scene()
    scene.learn_inode(scene.d)
    scene.learn_name(scene.d, b"a")
    scene.learn_name(scene.d, b"none")
    assert scene.records.entry(scene.d, b"other") is None
    scene.learn_name(scene.d, b"b")
    assert scene.records.entry(scene.d, b"other") == NOTHING
    for name in (b"", b".", b"..", b"n" * (NAME_BYTES_MAX + 1)):
        assert scene.records.entry(scene.d, name) is None, "not for us to say"


LOSSES = {
    "a recalled name": lambda s: s.recall(s.d, b"a"),
    "a recalled directory": lambda s: s.recall(s.d),
    "the loss of the link": lambda s: s.records.forget_all(),
    "names that had to make room": lambda s: [s.learn_name(ROOT, n) for n in (b"x", b"y", b"z")],
    "an inode that had to make room": lambda s: [s.learn_inode(i) for i in (ROOT, s.a, s.b)],
}


@pytest.mark.parametrize("what", LOSSES)
async def test_what_is_forgotten_of_it_makes_it_unknown(what: str) -> None:
    """Goal: the count of names is right, however they go and come back."""
    scene = Scene(names_max=4, records_max=3)
    for _ in range(3):
        scene.records.good_until_s = FOR_EVER
        scene.learn_name(scene.d, b"a")
        scene.learn_name(scene.d, b"b")
        scene.learn_inode(scene.d)
        assert scene.records.entry(scene.d, b"other") == NOTHING
        LOSSES[what](scene)
        scene.records.good_until_s = FOR_EVER
        assert scene.records.entry(scene.d, b"other") is None


async def test_names_that_are_taken_in_count() -> None:
    """Method: one goes and one comes, in a directory that is known whole."""
    scene = Scene()
    scene.alone(scene.d)
    scene.learn_name(scene.d, b"a")
    scene.learn_name(scene.d, b"b")
    directory = replace(scene.volume.inode(scene.d), size=1)
    take(scene.records, {inode_key(scene.d): directory, dentry_key(scene.d, b"a"): None})
    assert scene.records.entry(scene.d, b"a") == NOTHING
    assert scene.records.entry(scene.d, b"new") == NOTHING
    entry = Dentry(InodeId(99), stat.S_IFREG)
    directory = replace(directory, size=2)
    take(scene.records, {inode_key(scene.d): directory, dentry_key(scene.d, b"new"): entry})
    assert scene.records.entry(scene.d, b"new") == InodeId(99)
    assert scene.records.entry(scene.d, b"other") == NOTHING


# ---------------------------------------------------------------- what is owed


async def test_what_was_changed_twice_is_owed_until_both_are_settled() -> None:
    scene = Scene()
    scene.alone(scene.a)
    first, second = scene.change(scene.a), scene.change(scene.a)
    assert first == second == [scene.a]
    assert list(scene.records.owed) == [scene.a]
    scene.records.settle(first)
    assert scene.records.is_owed(scene.a)
    scene.records.settle(second)
    assert not scene.records.is_owed(scene.a)
    assert scene.records.inode(scene.a) == scene.volume.inode(scene.a)


async def test_an_answer_from_before_what_is_owed_is_not_kept() -> None:
    """Goal: it tells of the inode as it was. Method: questions asked before the change, and while
    it is owed; answers come while it is owed, and after it is settled."""
    scene = Scene()
    scene.alone(scene.a)
    old = scene.volume.inode(scene.a)
    with scene.records.asking() as before:
        touched = scene.change(scene.a)
        with scene.records.asking() as meanwhile:
            for question in (before, meanwhile):
                scene.records.note_inode(question, old)
                assert scene.records.inode(scene.a) == scene.volume.inode(scene.a) != old
            scene.records.settle(touched)
            for question in (before, meanwhile):
                scene.records.note_inode(question, old)
                assert scene.records.inode(scene.a) == scene.volume.inode(scene.a)


ROOM = {
    "the directory": lambda s: [s.learn_inode(ino) for ino in (ROOT, s.a, s.b)],
    "the name": lambda s: [s.learn_name(ROOT, name) for name in (b"x", b"y", b"z")],
}


@pytest.mark.parametrize("what", ROOM)
async def test_what_was_changed_here_and_made_room_is_not_told_by_an_older_answer(
    what: str,
) -> None:
    """Method: the name is asked for and there is none, then it is made here and is durable; it has
    to make room, and only then the answer comes."""
    scene = Scene(records_max=3, names_max=3)
    scene.alone(scene.d)
    with scene.records.asking() as question:
        entry = Dentry(InodeId(99), stat.S_IFREG)
        directory = scene.newer(scene.d)
        owed = {inode_key(scene.d): directory, dentry_key(scene.d, b"new"): entry}
        scene.records.settle(take(scene.records, owed))
        ROOM[what](scene)
        assert scene.records.entry(scene.d, b"new") is None
        scene.records.note_entry(question, scene.d, b"new", NOTHING)
        assert scene.records.entry(scene.d, b"new") is None


async def test_what_is_owed_outlives_a_link() -> None:
    scene = Scene()
    scene.alone(scene.a)
    touched = scene.change(scene.a)
    scene.records.forget_all()
    assert list(scene.records.owed) == [scene.a]
    assert scene.records.inode(scene.a) is None
    scene.records.settle(touched)
    assert not scene.records.owed


async def test_what_is_owed_never_makes_room() -> None:
    """Goal: nobody else knows it; and whatever is learnt beside it finds room."""
    scene = Scene(records_max=2, names_max=4)
    scene.alone(scene.a, scene.d)
    owed = [*scene.change(scene.a), *scene.change(scene.d)]
    for name in (b"a", b"b"):
        scene.learn_name(scene.d, name)
    for ino in (scene.b, ROOT):
        for name in (b"x", b"y", b"z"):
            scene.learn_name(ino, name)
        scene.learn_inode(ino)
        assert scene.records.inode(ino) is not None
        assert scene.records.entry(ino, b"z") == NOTHING
    assert scene.records.inode(scene.a) == scene.volume.inode(scene.a)
    assert scene.records.entry(scene.d, b"a") == scene.a
    scene.records.settle(owed)
    for ino in (scene.b, ROOT):
        scene.learn_inode(ino)
    scene.learn_name(InodeId(99), b"x")
    assert scene.a in scene.records.dropped(10)


async def test_an_inode_that_lost_its_last_name_here_is_forgotten() -> None:
    scene = Scene()
    scene.alone(scene.a)
    gone = replace(scene.volume.inode(scene.a), nlink=0)
    take(scene.records, {inode_key(scene.a): gone})
    assert scene.records.inode(scene.a) is None
    assert not scene.records.is_exclusive(scene.a)
    assert scene.records.dropped(10) == []
    assert scene.records.is_owed(scene.a)


# ---------------------------------------------------------------- data of files


async def test_what_was_promised_is_ones_own_until_it_was_kept() -> None:
    """Goal: a recall is not answered before, though it ended what was exclusive."""
    scene = Scene(records_max=1)
    scene.alone(scene.a)
    scene.records.promise(scene.a)
    scene.learn_inode(scene.b)
    assert scene.records.inode(scene.a) is not None, "it never makes room"
    scene.recall(scene.a, is_shared=True)
    assert not scene.records.is_exclusive(scene.a)
    assert scene.records.is_alone(scene.a)
    assert list(scene.records.promised) == [scene.a]
    scene.records.keep_promise(scene.a)
    scene.records.keep_promise(scene.a)
    assert not scene.records.is_alone(scene.a)
    assert not scene.records.promised


async def test_attributes_are_known_while_data_is_being_sent() -> None:
    """Goal: answers are given from what was known, and then from what the commit gave; nothing
    that was asked meanwhile is kept."""
    scene = Scene()
    scene.alone(scene.a)
    old = scene.volume.inode(scene.a)
    scene.records.begin_commit(scene.a)
    with scene.records.asking() as question:
        assert scene.records.is_in_flux(scene.a)
        assert scene.records.inode(scene.a) == old
        committed = replace(old, size=5)
        scene.records.note_inode(question, replace(old, size=4))
        assert scene.records.inode(scene.a) == old
        scene.records.end_commit(scene.a, committed)
        scene.records.note_inode(question, old)
    assert scene.records.inode(scene.a) == committed
    assert scene.records.is_exclusive(scene.a)
    scene.records.begin_commit(scene.a)
    scene.records.end_commit(scene.a, None)
    assert scene.records.inode(scene.a) == committed
    assert not scene.records.is_in_flux(scene.a)


async def test_a_commit_that_outlived_its_lease_teaches_nothing() -> None:
    scene = Scene()
    scene.alone(scene.a)
    scene.records.begin_commit(scene.a)
    scene.recall(scene.a)
    scene.records.end_commit(scene.a, scene.volume.inode(scene.a))
    assert scene.records.inode(scene.a) is None
