"""Goal: rename moves, replaces, refuses and exchanges as renameat2(2). Method: the effect of every
pairing of types on every record, loops over real trees, and faults in Linux's order.
"""

from __future__ import annotations

import errno
import itertools
import stat
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from dfs.core.namespace.directories import lookup
from dfs.core.namespace.keys import inode_key
from dfs.core.namespace.ops import (
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    Link,
    Rename,
    Rmdir,
    SetAttr,
)
from dfs.errors import FsError
from dfs.limits import LINK_COUNT_MAX, NAME_BYTES_MAX
from dfs.types import InodeId
from tests.unit.core.namespace.volume import ALICE, ROOT, ROOT_USER, Volume

if TYPE_CHECKING:
    from dfs.core.namespace.ops import OpResult
    from dfs.core.namespace.records import Inode
    from dfs.types import Credentials

PAIRS = list(itertools.product(("file", "directory", "full"), repeat=2))
TOO_LONG = b"n" * (NAME_BYTES_MAX + 1)


class Tree:
    """Two directories, and a way to move between them."""

    def __init__(self) -> None:
        self.volume = Volume()
        self.left = self.volume.mkdir(ROOT, b"left", 0o777).ino
        self.right = self.volume.mkdir(ROOT, b"right", 0o777).ino

    def make(self, parent: InodeId, name: bytes, kind: str) -> Inode:
        if kind == "directory":
            return self.volume.mkdir(parent, name, 0o777)
        if kind == "full":
            made = self.volume.mkdir(parent, name, 0o777)
            self.volume.create(made.ino, b"inside")
            return self.volume.inode(made.ino)
        return self.volume.create(parent, name, stat.S_IFREG | 0o666)

    def fields(self, name: bytes, new_name: bytes, **more: Any) -> dict[str, Any]:
        places = {"parent": self.left, "name": name, "new_parent": self.right}
        return {**places, "new_name": new_name, **more}

    def move(self, name: bytes, new_name: bytes, **more: Any) -> OpResult:
        return self.volume.do(Rename, **self.fields(name, new_name, **more))

    def errno(self, name: bytes, new_name: bytes, **more: Any) -> int:
        return self.volume.errno_of(Rename, **self.fields(name, new_name, **more))

    def counts(self, ino: InodeId) -> tuple[int, int]:
        inode = self.volume.inode(ino)
        return inode.size, inode.nlink

    def find(self, parent: InodeId, name: bytes) -> InodeId | None:
        try:
            return lookup(self.volume, parent, name).ino
        except FsError:
            return None


@pytest.fixture
def tree() -> Tree:
    return Tree()


# ---------------------------------------------------------------- effects


@pytest.mark.parametrize("kind", ["file", "directory", "full"])
def test_a_move_to_a_free_name(tree: Tree, kind: str) -> None:
    moved = tree.make(tree.left, b"a", kind)
    result = tree.move(b"a", b"b")
    now = tree.volume.now_ns
    parent = tree.right if moved.is_directory else InodeId(0)
    assert result.inode == replace(moved, ctime_ns=now, parent=parent)
    assert result.orphans == ()
    assert (tree.find(tree.left, b"a"), tree.find(tree.right, b"b")) == (None, moved.ino)
    assert tree.counts(tree.left) == (0, 2)
    assert tree.counts(tree.right) == (1, 2 + moved.is_directory)
    for ino in (tree.left, tree.right):
        inode = tree.volume.inode(ino)
        assert (inode.mtime_ns, inode.ctime_ns) == (now, now)
    tree.volume.assert_sound()


@pytest.mark.parametrize("kind", ["file", "directory"])
@pytest.mark.parametrize("is_same_parent", [False, True])
def test_a_move_over_something(tree: Tree, kind: str, is_same_parent: bool) -> None:
    new_parent = tree.left if is_same_parent else tree.right
    moved = tree.make(tree.left, b"a", kind)
    other = tree.make(new_parent, b"b", kind)
    result = tree.move(b"a", b"b", new_parent=new_parent)
    assert result.orphans == (other.ino,)
    gone = tree.volume.inode(other.ino)
    assert (gone.nlink, gone.ctime_ns) == (0, tree.volume.now_ns)
    assert tree.find(new_parent, b"b") == moved.ino
    assert tree.counts(new_parent) == (1, 2 + moved.is_directory)
    tree.volume.assert_sound(frozenset({other.ino}))


def test_a_replaced_file_with_another_name_is_no_orphan(tree: Tree) -> None:
    tree.make(tree.left, b"a", "file")
    other = tree.make(tree.right, b"b", "file")
    tree.volume.do(Link, ino=other.ino, parent=ROOT, name=b"c")
    assert tree.move(b"a", b"b").orphans == ()
    assert tree.volume.inode(other.ino).nlink == 1
    tree.volume.assert_sound()


@pytest.mark.parametrize("flags", [0, RENAME_EXCHANGE])
def test_two_names_of_one_inode_are_left_alone(tree: Tree, flags: int) -> None:
    file = tree.make(tree.left, b"a", "file")
    tree.volume.do(Link, ino=file.ino, parent=tree.right, name=b"b")
    before = dict(tree.volume.records)
    result = tree.move(b"a", b"b", flags=flags)
    assert result.inode == tree.volume.inode(file.ino)
    assert tree.volume.records == before
    assert tree.errno(b"a", b"b", flags=RENAME_NOREPLACE) == errno.EEXIST


def test_a_name_over_itself_changes_nothing(tree: Tree) -> None:
    directory = tree.make(tree.left, b"a", "full")
    before = dict(tree.volume.records)
    assert tree.move(b"a", b"a", new_parent=tree.left).inode == directory
    assert tree.volume.records == before


@pytest.mark.parametrize("kinds", PAIRS)
@pytest.mark.parametrize("is_same_parent", [False, True])
def test_an_exchange_swaps_whatever_is_there(
    tree: Tree, kinds: tuple[str, str], is_same_parent: bool
) -> None:
    new_parent = tree.left if is_same_parent else tree.right
    one = tree.make(tree.left, b"a", kinds[0])
    two = tree.make(new_parent, b"b", kinds[1])
    result = tree.move(b"a", b"b", new_parent=new_parent, flags=RENAME_EXCHANGE)
    assert (tree.find(tree.left, b"a"), tree.find(new_parent, b"b")) == (two.ino, one.ino)
    assert result.inode == tree.volume.inode(one.ino)
    assert result.orphans == ()
    now = tree.volume.now_ns
    changed = {tree.volume.inode(ino).ctime_ns for ino in (one.ino, two.ino, tree.left, new_parent)}
    assert changed == {now}
    assert tree.volume.inode(tree.left).mtime_ns == now
    tree.volume.assert_sound()


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("kind", "other", "expected"),
    [
        ("file", "directory", errno.EISDIR),
        ("file", "full", errno.EISDIR),
        ("directory", "file", errno.ENOTDIR),
        ("directory", "full", errno.ENOTEMPTY),
        ("full", "directory", 0),
        ("full", "full", errno.ENOTEMPTY),
    ],
)
def test_only_like_replaces_like(tree: Tree, kind: str, other: str, expected: int) -> None:
    tree.make(tree.left, b"a", kind)
    tree.make(tree.right, b"b", other)
    assert tree.errno(b"a", b"b") == expected


def test_flags_decide_what_must_be_there(tree: Tree) -> None:
    tree.make(tree.left, b"a", "file")
    assert tree.errno(b"a", b"b", flags=RENAME_EXCHANGE) == errno.ENOENT
    tree.make(tree.right, b"b", "file")
    assert tree.errno(b"a", b"b", flags=RENAME_NOREPLACE) == errno.EEXIST
    assert tree.errno(b"a", b"free", flags=RENAME_NOREPLACE) == 0


@pytest.mark.parametrize("flags", [3, 4, 5, 8, -1, 1 << 40])
def test_unknown_flags_come_before_everything(tree: Tree, flags: int) -> None:
    assert tree.errno(b"", TOO_LONG, parent=99, flags=flags) == errno.EINVAL


@pytest.mark.parametrize("flags", [0, RENAME_NOREPLACE, RENAME_EXCHANGE])
def test_dots_are_busy(tree: Tree, flags: int) -> None:
    tree.make(tree.left, b"a", "file")
    for name in (b".", b".."):
        assert tree.errno(name, b"b", flags=flags) == errno.EBUSY
        expected = errno.EEXIST if flags == RENAME_NOREPLACE else errno.EBUSY
        assert tree.errno(b"a", name, flags=flags) == expected


@pytest.mark.parametrize("depth", [0, 1, 5])
def test_a_directory_never_moves_into_itself(tree: Tree, depth: int) -> None:
    top = tree.make(tree.left, b"a", "directory")
    ino = top.ino
    for _ in range(depth):
        ino = tree.make(ino, b"below", "directory").ino
    assert tree.errno(b"a", b"b", new_parent=ino) == errno.EINVAL
    inside = tree.make(ino, b"x", "directory")
    assert tree.errno(b"a", b"x", new_parent=ino, flags=RENAME_EXCHANGE) == errno.EINVAL
    # The other way round: what holds the old place would be replaced by what it holds.
    up = {"parent": ino, "new_parent": tree.left}
    assert tree.errno(b"x", b"a", **up) == errno.ENOTEMPTY
    assert tree.errno(b"x", b"a", flags=RENAME_EXCHANGE, **up) == errno.EINVAL
    assert tree.errno(b"x", b"free", **up) == 0
    assert tree.volume.inode(inside.ino).parent == tree.left
    tree.volume.assert_sound()


def test_a_loop_on_the_disk_is_told(tree: Tree) -> None:
    one = tree.make(tree.left, b"a", "directory")
    two = tree.make(one.ino, b"b", "directory")
    tree.make(tree.right, b"x", "directory")
    tree.volume.records[inode_key(one.ino)] = replace(tree.volume.inode(one.ino), parent=two.ino)
    assert tree.errno(b"x", b"y", parent=tree.right, new_parent=two.ino) == errno.EIO


FAULTS = {
    "no search": errno.EACCES,
    "dots": errno.EBUSY,
    "source too long": errno.ENAMETOOLONG,
    "source absent": errno.ENOENT,
    "target too long": errno.ENAMETOOLONG,
    "exists": errno.EEXIST,
    "no write at source": errno.EACCES,
    "sticky source": errno.EPERM,
    "no write at target": errno.EACCES,
    "no write on directory": errno.EACCES,
}


@pytest.mark.parametrize(
    "faults", [s for n in range(5) for s in itertools.combinations(FAULTS, n)], ids=str
)
def test_the_first_fault_is_told(tree: Tree, faults: tuple[str, ...]) -> None:
    volume, who = tree.volume, ALICE
    name = TOO_LONG if "source too long" in faults else b"a"
    new_name = TOO_LONG if "target too long" in faults else b"b"
    if not {"source absent", "source too long"} & set(faults):
        moved = tree.make(tree.left, b"a", "directory")
        if "no write on directory" in faults:
            volume.do(SetAttr, ino=moved.ino, mode=0o555)
    if "exists" in faults and new_name == b"b":
        tree.make(tree.right, b"b", "directory")
    left = 0o777 & ~(0o111 * ("no search" in faults)) & ~(0o222 * ("no write at source" in faults))
    volume.do(SetAttr, ino=tree.left, mode=left | (0o1000 * ("sticky source" in faults)))
    volume.do(SetAttr, ino=tree.right, mode=0o555 if "no write at target" in faults else 0o777)
    fields = tree.fields(b".." if "dots" in faults else name, new_name, flags=RENAME_NOREPLACE)
    expected = next((FAULTS[fault] for fault in FAULTS if fault in faults), 0)
    assert volume.errno_of(Rename, who, **fields) == expected


@pytest.mark.parametrize(
    ("which", "ino", "expected"),
    [
        ("parent", 99, errno.ESTALE),
        ("new_parent", 99, errno.ESTALE),
        ("parent", "file", errno.ENOTDIR),
        ("new_parent", "file", errno.ENOTDIR),
        ("parent", "removed", errno.ENOENT),
        ("new_parent", "removed", errno.ENOENT),
    ],
)
def test_parents_must_be_there(tree: Tree, which: str, ino: object, expected: int) -> None:
    tree.make(tree.left, b"a", "file")
    if ino == "file":
        ino = tree.make(ROOT, b"file", "file").ino
    elif ino == "removed":
        ino = tree.make(ROOT, b"gone", "directory").ino
        tree.volume.do(Rmdir, parent=ROOT, name=b"gone")
    assert tree.errno(b"a", b"b", **{which: ino}) == expected


@pytest.mark.parametrize(
    ("who", "expected"),
    [(ALICE, errno.EPERM), (ROOT_USER, 0)],
)
def test_a_sticky_target_keeps_what_it_has(tree: Tree, who: Credentials, expected: int) -> None:
    tree.make(tree.left, b"a", "file")
    tree.make(tree.right, b"b", "file")
    tree.volume.do(SetAttr, ino=tree.right, mode=0o1777)
    assert tree.volume.errno_of(Rename, who, **tree.fields(b"a", b"b")) == expected


def test_a_directory_keeps_its_parent_without_write_permission(tree: Tree) -> None:
    moved = tree.make(tree.left, b"a", "directory")
    tree.volume.do(SetAttr, ino=moved.ino, mode=0o555)
    within = tree.fields(b"a", b"b", new_parent=tree.left)
    assert tree.volume.errno_of(Rename, ALICE, **within) == 0
    assert tree.volume.errno_of(Rename, ALICE, **tree.fields(b"b", b"a")) == errno.EACCES
    tree.make(tree.right, b"a", "file")
    swap = tree.fields(b"a", b"b", parent=tree.right, new_parent=tree.left, flags=RENAME_EXCHANGE)
    assert tree.volume.errno_of(Rename, ALICE, **swap) == errno.EACCES


def test_link_limits_of_parents(tree: Tree) -> None:
    tree.make(tree.left, b"a", "directory")
    tree.make(tree.left, b"f", "file")
    tree.make(tree.right, b"b", "directory")
    tree.make(tree.right, b"f", "file")
    right = tree.volume.inode(tree.right)
    tree.volume.records[inode_key(tree.right)] = replace(right, nlink=LINK_COUNT_MAX)
    assert tree.errno(b"a", b"c") == errno.EMLINK
    assert tree.errno(b"a", b"f", flags=RENAME_EXCHANGE) == errno.EMLINK
    back = {"parent": tree.right, "new_parent": tree.left, "flags": RENAME_EXCHANGE}
    assert tree.errno(b"f", b"a", **back) == errno.EMLINK
