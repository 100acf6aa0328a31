"""Goal: an op that is done here gives what the server gives, and none is that the server has to be
asked for (I4, I8). Method: a volume, and a cache to which some of it is leased."""

from __future__ import annotations

import errno
import stat
from typing import TYPE_CHECKING, Any

import pytest

from dfs.client.lease import NOTHING
from dfs.client.local_ops import do_here
from dfs.client.record_cache import RecordCache
from dfs.core.messages import Recall
from dfs.core.namespace.keys import XATTR
from dfs.core.namespace.ops import (
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    CommitData,
    Create,
    Link,
    Mkdir,
    Piece,
    RemoveXattr,
    Rename,
    Rmdir,
    SetAttr,
    SetXattr,
    Symlink,
    Unlink,
)
from dfs.errors import FsError
from dfs.types import ROOT, InodeId
from tests.unit.client.leased import Leased, touched_in
from tests.unit.core.namespace.volume import ALICE, ROOT_USER, Volume

if TYPE_CHECKING:
    from dfs.core.namespace.ops import ClientOp

pytestmark = pytest.mark.usefixtures("autojump_clock")

FILE_MODE = stat.S_IFREG | 0o644


def op_of(volume: Volume, kind: type[ClientOp], who: Any = ROOT_USER, **fields: Any) -> ClientOp:
    """An op of this moment. What it makes gets the next number."""
    if "ino" in kind.__struct_fields__ and "ino" not in fields:
        fields["ino"] = volume.new_ino()
    return kind(**fields, **volume.stamp(who))


SCENE_NAMES = (b"d", b"e", b"f", b"g", b"s", b"new", b"up")


class Scene(Leased):
    """`/d` with two files, an empty directory and a symlink; all of it is this client's alone."""

    def __init__(self) -> None:
        super().__init__(Volume(), RecordCache())
        volume = self.volume
        self.d = volume.mkdir(ROOT, b"d").ino
        self.f = volume.create(self.d, b"f").ino
        self.g = volume.create(self.d, b"g").ino
        self.e = volume.mkdir(self.d, b"e").ino
        self.s = volume.do(Symlink, parent=self.d, name=b"s", target=b"f").inode
        self.alone(ROOT, self.d, self.f, self.g, self.e)
        for name in (b"f", b"g", b"e", b"s"):
            self.learn_name(self.d, name)
        self.learn_name(ROOT, b"d")

    def op(self, kind: type[ClientOp], **fields: Any) -> ClientOp:
        """Fields that name an inode by a letter mean the one that is called so."""
        named = {k: getattr(self, v) if isinstance(v, str) else v for k, v in fields.items()}
        return op_of(self.volume, kind, **named)


DONE_HERE: dict[str, tuple[type[ClientOp], dict[str, Any]]] = {
    "create": (Create, {"parent": "d", "name": b"new", "mode": FILE_MODE}),
    "open with O_CREAT": (
        Create,
        {"parent": "d", "name": b"f", "mode": FILE_MODE, "is_exclusive": False},
    ),
    "mkdir": (Mkdir, {"parent": "e", "name": b"new", "mode": 0o700}),
    "symlink": (Symlink, {"parent": "d", "name": b"new", "target": b"/x"}),
    "link": (Link, {"ino": "f", "parent": "e", "name": b"new"}),
    "unlink": (Unlink, {"parent": "d", "name": b"f"}),
    "rmdir": (Rmdir, {"parent": "d", "name": b"e"}),
    "rename": (
        Rename,
        {"parent": "d", "name": b"f", "new_parent": "e", "new_name": b"new"},
    ),
    "rename over a file": (
        Rename,
        {"parent": "d", "name": b"f", "new_parent": "d", "new_name": b"g"},
    ),
    "rename of a directory": (
        Rename,
        {"parent": "d", "name": b"e", "new_parent": ROOT, "new_name": b"up"},
    ),
    "exchange": (
        Rename,
        {
            "parent": "d",
            "name": b"f",
            "new_parent": "d",
            "new_name": b"e",
            "flags": RENAME_EXCHANGE,
        },
    ),
    "chmod": (SetAttr, {"ino": "f", "mode": 0o4711}),
    "chown": (SetAttr, {"ino": "d", "uid": 1000, "gid": 2000}),
    "utimes": (SetAttr, {"ino": "g", "mtime_ns": 5, "is_atime_now": True}),
}


@pytest.mark.parametrize("what", DONE_HERE)
async def test_what_is_this_clients_alone_is_changed_here(what: str) -> None:
    """Goal: the result is the server's, and so is all that is known afterwards; what changed is
    owed until it is settled. Method: the same op here and there."""
    scene = Scene()
    kind, fields = DONE_HERE[what]
    op = scene.op(kind, **fields)
    touched = touched_in(scene.volume, op)
    done = do_here(scene.records, op)
    assert done is not None
    assert done[0] == scene.volume.apply(op)
    assert set(done[1]) == touched.keys() == set(scene.records.owed)
    scene.check(*SCENE_NAMES)
    scene.records.settle(done[1])
    assert not scene.records.owed
    scene.check(*SCENE_NAMES)


FAILS_HERE: dict[str, tuple[int, type[ClientOp], dict[str, Any]]] = {
    "a name that is there": (errno.EEXIST, Mkdir, {"parent": "d", "name": b"f", "mode": 0o755}),
    "a name that is not there": (errno.ENOENT, Unlink, {"parent": "d", "name": b"x"}),
    "a file as a directory": (errno.ENOTDIR, Rmdir, {"parent": "d", "name": b"f"}),
    "a directory as a file": (errno.EISDIR, Unlink, {"parent": "d", "name": b"e"}),
    "a directory with entries": (errno.ENOTEMPTY, Rmdir, {"parent": ROOT, "name": b"d"}),
    "another one's file": (errno.EPERM, SetAttr, {"ino": "f", "mode": 0o777, "who": ALICE}),
    "another one's directory": (
        errno.EACCES,
        Create,
        {"parent": "d", "name": b"x", "mode": FILE_MODE, "who": ALICE},
    ),
    "a directory into itself": (
        errno.EINVAL,
        Rename,
        {"parent": ROOT, "name": b"d", "new_parent": "e", "new_name": b"d"},
    ),
    "a name that must not be replaced": (
        errno.EEXIST,
        Rename,
        {
            "parent": "d",
            "name": b"f",
            "new_parent": "d",
            "new_name": b"g",
            "flags": RENAME_NOREPLACE,
        },
    ),
    "no name at all": (errno.ENOENT, Mkdir, {"parent": "d", "name": b"", "mode": 0o755}),
    "a name that is too long": (
        errno.ENAMETOOLONG,
        Mkdir,
        {"parent": "d", "name": b"n" * 256, "mode": 0o755},
    ),
}


@pytest.mark.parametrize("is_alone", [True, False])
@pytest.mark.parametrize("what", FAILS_HERE)
async def test_what_fails_at_the_server_fails_here_and_owes_nothing(
    what: str, is_alone: bool
) -> None:
    """Goal: a failure changes nothing, so it needs no more than to know what it looks at."""
    scene = Scene()
    expected, kind, fields = FAILS_HERE[what]
    op = scene.op(kind, **fields)
    if not is_alone:
        scene.records.recall(Recall(1, dict.fromkeys(scene.inos(), ()), is_shared=True))
    with pytest.raises(FsError) as here:
        do_here(scene.records, op)
    with pytest.raises(FsError) as there:
        scene.volume.apply(op)
    assert here.value.errno == there.value.errno == expected
    assert not scene.records.owed
    scene.check(*SCENE_NAMES)


def shared(ino: InodeId) -> Recall:
    return Recall(1, {ino: ()}, is_shared=True)


ASKED: dict[str, Any] = {
    "the directory is shared": lambda s: s.records.recall(shared(s.d)),
    "the file is shared": lambda s: s.records.recall(shared(s.f)),
    "the directory is not known": lambda s: s.records.recall(Recall(1, {s.d: ()})),
    "the file is not known": lambda s: s.records.recall(Recall(1, {s.f: ()})),
    "the name is not known": lambda s: s.records.recall(Recall(1, {s.d: (b"f",)})),
    "data of the file is being sent": lambda s: s.records.begin_commit(s.f),
    "another op on the file is under way": lambda s: s.records.begin(s.op(SetAttr, ino="f")),
    "the session may be over": lambda s: setattr(s.records, "good_until_s", 0.0),
    "the link was lost": lambda s: s.records.forget_all(),
}


@pytest.mark.parametrize("why", ASKED)
async def test_the_server_is_asked_where_not_all_is_known_or_alone(
    why: str,
) -> None:
    """Method: an unlink, which looks at the directory, the name and the file and changes them."""
    scene = Scene()
    ASKED[why](scene)
    assert do_here(scene.records, scene.op(Unlink, parent="d", name=b"f")) is None
    assert not scene.records.owed


async def test_a_name_is_taken_for_absent_only_in_a_directory_that_is_known_whole() -> None:
    scene = Scene()
    scene.records.recall(Recall(1, {scene.d: (b"g",)}))
    scene.alone(scene.d)
    op = scene.op(Create, parent="d", name=b"new", mode=FILE_MODE)
    assert do_here(scene.records, op) is None
    scene.learn_name(scene.d, b"new")
    assert do_here(scene.records, op) is not None


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (SetXattr, {"name": b"user.x", "value": b""}),
        (RemoveXattr, {"name": b"user.x"}),
        (CommitData, {"pieces": (Piece(offset=0, length=1, inline=b"x"),)}),
        (SetAttr, {"size": 1}),
    ],
)
async def test_what_needs_records_that_are_never_leased_is_asked(
    kind: type[ClientOp], fields: dict[str, Any]
) -> None:
    """Goal: of content and extended attributes nothing is known here. Method: a file with both."""
    scene = Scene()
    scene.volume.do(SetXattr, ino=scene.f, name=b"user.x", value=b"v")
    scene.volume.commit(scene.f, Piece(offset=0, length=3, inline=b"abc"))
    scene.alone(scene.f)
    assert any(key[2:3] == XATTR for key in scene.volume.records)
    assert do_here(scene.records, scene.op(kind, ino="f", **fields)) is None
    assert not scene.records.owed


async def test_an_unlinked_file_is_leased_no_more() -> None:
    """The server takes the lease away by itself: what has no name is leased to nobody."""
    scene = Scene()
    assert do_here(scene.records, scene.op(Unlink, parent="d", name=b"f")) is not None
    assert scene.records.inode(scene.f) is None
    assert do_here(scene.records, scene.op(SetAttr, ino="f", mode=0o600)) is None


async def test_names_known_to_lead_nowhere_are_not_counted() -> None:
    scene = Scene()
    assert scene.records.entry(scene.d, b"none") == NOTHING
    assert do_here(scene.records, scene.op(Unlink, parent="d", name=b"f")) is not None
    assert scene.records.entry(scene.d, b"f") == NOTHING
    assert scene.records.entry(scene.d, b"none") == NOTHING
