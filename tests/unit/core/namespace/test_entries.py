"""Goal: names come and go as on Linux. Method: effects on every record concerned, and for the errno
each set of faults at once, of which the first in Linux's order must be told.
"""

from __future__ import annotations

import errno
import itertools
import stat
from typing import Any

import pytest
from msgspec.structs import replace

from dfs.core.namespace.directories import lookup
from dfs.core.namespace.keys import inode_key
from dfs.core.namespace.ops import (
    AnyOp,
    Create,
    Link,
    Mkdir,
    Rmdir,
    SetAttr,
    Symlink,
    Unlink,
)
from dfs.limits import LINK_COUNT_MAX, NAME_BYTES_MAX, SYMLINK_BYTES_MAX
from dfs.types import InodeId
from tests.unit.core.namespace.volume import ALICE, BOB, ROOT, ROOT_USER, Volume

MAKERS: dict[type[AnyOp], dict[str, Any]] = {
    Create: {"mode": stat.S_IFREG | 0o644},
    Mkdir: {"mode": 0o755},
    Symlink: {"target": b"t"},
    Link: {},
}
TOO_LONG = b"n" * (NAME_BYTES_MAX + 1)


@pytest.fixture
def volume() -> Volume:
    return Volume()


def _fields(volume: Volume, kind: type[AnyOp]) -> dict[str, Any]:
    """What the op needs beside its place."""
    if kind is Link:
        return {"ino": volume.create(ROOT, b"source").ino}
    return MAKERS[kind]


def _subsets(faults: list[str]) -> list[tuple[str, ...]]:
    return [s for n in range(len(faults) + 1) for s in itertools.combinations(faults, n)]


MAKE_FAULTS = {
    "no search": errno.EACCES,
    "removed": errno.ENOENT,
    "too long": errno.ENAMETOOLONG,
    "exists": errno.EEXIST,
    "no write": errno.EACCES,
}


@pytest.mark.parametrize("kind", MAKERS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("faults", _subsets(list(MAKE_FAULTS)), ids=str)
def test_making_tells_the_first_fault(
    volume: Volume, kind: type[AnyOp], faults: tuple[str, ...]
) -> None:
    if {"removed", "exists"} <= set(faults):
        return
    directory = volume.mkdir(ROOT, b"d", 0o777)
    name = TOO_LONG if "too long" in faults else b"n"
    if "exists" in faults and name != TOO_LONG:
        volume.create(directory.ino, name)
    bits = 0o777 & ~(0o111 * ("no search" in faults)) & ~(0o222 * ("no write" in faults))
    volume.do(SetAttr, ino=directory.ino, mode=bits)
    if "removed" in faults:
        volume.do(Rmdir, parent=ROOT, name=b"d")
    expected = next((MAKE_FAULTS[fault] for fault in MAKE_FAULTS if fault in faults), 0)
    fields = _fields(volume, kind)
    assert volume.errno_of(kind, ALICE, parent=directory.ino, name=name, **fields) == expected


DELETE_FAULTS = {
    "no search": errno.EACCES,
    "too long": errno.ENAMETOOLONG,
    "absent": errno.ENOENT,
    "no write": errno.EACCES,
    "sticky": errno.EPERM,
    "wrong type": 0,
    "full": errno.ENOTEMPTY,
}


@pytest.mark.parametrize("kind", [Unlink, Rmdir], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("faults", _subsets(list(DELETE_FAULTS)), ids=str)
def test_removing_tells_the_first_fault(
    volume: Volume, kind: type[AnyOp], faults: tuple[str, ...]
) -> None:
    wrong_type = errno.EISDIR if kind is Unlink else errno.ENOTDIR
    directory = volume.mkdir(ROOT, b"d", 0o777)
    is_directory = (kind is Rmdir) != ("wrong type" in faults)
    if "full" in faults and not (is_directory and kind is Rmdir):
        return
    name = TOO_LONG if "too long" in faults else b"n"
    if not {"absent", "too long"} & set(faults):
        victim = (volume.mkdir if is_directory else volume.create)(directory.ino, name)
        if "full" in faults:
            volume.create(victim.ino, b"inside")
    mode = 0o777 & ~(0o111 * ("no search" in faults)) & ~(0o222 * ("no write" in faults))
    volume.do(SetAttr, ino=directory.ino, mode=mode | (0o1000 * ("sticky" in faults)))
    expected = next((DELETE_FAULTS[f] or wrong_type for f in DELETE_FAULTS if f in faults), 0)
    assert volume.errno_of(kind, ALICE, parent=directory.ino, name=name) == expected


@pytest.mark.parametrize("kind", [*MAKERS, Unlink, Rmdir], ids=lambda kind: kind.__name__)
def test_the_parent_is_looked_at_first(volume: Volume, kind: type[AnyOp]) -> None:
    file = volume.create(ROOT, b"f", stat.S_IFREG)
    fields = _fields(volume, kind) if kind in MAKERS else {}
    for parent, expected in ((file.ino, errno.ENOTDIR), (InodeId(99), errno.ESTALE)):
        errno_of = volume.errno_of(kind, ALICE, parent=parent, name=TOO_LONG, **fields)
        assert errno_of == expected


@pytest.mark.parametrize("kind", MAKERS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("name", [b".", b".."])
def test_dots_exist_already(volume: Volume, kind: type[AnyOp], name: bytes) -> None:
    assert volume.errno_of(kind, parent=ROOT, name=name, **_fields(volume, kind)) == errno.EEXIST


def test_dots_are_not_removed(volume: Volume) -> None:
    assert volume.errno_of(Unlink, parent=ROOT, name=b".") == errno.EISDIR
    assert volume.errno_of(Rmdir, parent=ROOT, name=b".") == errno.EINVAL
    assert volume.errno_of(Rmdir, parent=ROOT, name=b"..") == errno.ENOTEMPTY


def test_a_removed_directory_has_no_entries_to_remove(volume: Volume) -> None:
    directory = volume.mkdir(ROOT, b"d", 0o777)
    volume.do(Rmdir, parent=ROOT, name=b"d")
    assert volume.errno_of(Unlink, parent=directory.ino, name=b"a") == errno.ENOENT


# ---------------------------------------------------------------- effects


def test_create_makes_a_file_and_counts_it(volume: Volume) -> None:
    file = volume.create(ROOT, b"f", stat.S_IFREG | 0o7640, who=ALICE)
    assert stat.filemode(file.mode) == "-rwSr-S--T"
    assert (file.uid, file.gid, file.nlink, file.size, file.rdev) == (1000, 1000, 1, 0, 0)
    assert {file.atime_ns, file.mtime_ns, file.ctime_ns, file.btime_ns} == {volume.now_ns}
    assert lookup(volume, ROOT, b"f") == file
    root = volume.inode(ROOT)
    assert (root.size, root.nlink, root.mtime_ns, root.ctime_ns) == (1, 2, *[volume.now_ns] * 2)
    volume.assert_sound()


@pytest.fixture(autouse=True)
def _open_root(volume: Volume) -> None:
    """Everyone may work in the root directory."""
    volume.do(SetAttr, ino=ROOT, mode=0o777)


@pytest.mark.parametrize(
    ("mode", "who", "expected"),
    [
        (stat.S_IFDIR, ROOT_USER, errno.EPERM),
        (stat.S_IFLNK, ROOT_USER, errno.EINVAL),
        (0o110000, ROOT_USER, errno.EINVAL),
        (stat.S_IFCHR, ALICE, errno.EPERM),
        (stat.S_IFBLK, ALICE, errno.EPERM),
        (stat.S_IFCHR, ROOT_USER, 0),
        (stat.S_IFBLK, ROOT_USER, 0),
        (stat.S_IFIFO, ALICE, 0),
        (stat.S_IFSOCK, ALICE, 0),
        (0, ALICE, 0),
    ],
)
def test_mknod_makes_every_type_it_may(volume: Volume, mode: int, who: Any, expected: int) -> None:
    fields = {"parent": ROOT, "name": b"n", "mode": mode | 0o600, "rdev": 0x103}
    assert volume.errno_of(Create, who, **fields) == expected
    if expected == 0:
        made = lookup(volume, ROOT, b"n")
        assert stat.S_IFMT(made.mode) == (mode or stat.S_IFREG)
        assert made.rdev == (0x103 if who is ROOT_USER else 0)


def test_the_type_is_checked_before_the_place_but_devices_after_permission(volume: Volume) -> None:
    volume.create(ROOT, b"f")
    wrong_type = {"parent": ROOT, "name": b"f", "mode": stat.S_IFDIR}
    assert volume.errno_of(Create, **wrong_type) == errno.EPERM
    device = {"parent": ROOT, "name": b"f", "mode": stat.S_IFCHR}
    assert volume.errno_of(Create, ALICE, **device) == errno.EEXIST
    volume.do(SetAttr, ino=ROOT, mode=0o755)
    assert volume.errno_of(Create, ALICE, **{**device, "name": b"g"}) == errno.EACCES


def test_create_without_excl_takes_what_is_there(volume: Volume) -> None:
    file = volume.create(ROOT, b"f", stat.S_IFREG)
    volume.mkdir(ROOT, b"d")
    before = dict(volume.records)
    fields = {"parent": ROOT, "mode": stat.S_IFREG | 0o777, "is_exclusive": False}
    result = volume.do(Create, ALICE, name=b"f", **fields)
    assert (result.inode, result.is_new) == (file, False)
    assert volume.records == before
    assert volume.errno_of(Create, name=b"d", **fields) == errno.EISDIR
    assert volume.do(Create, ALICE, name=b"g", **fields).is_new


def test_an_inode_number_is_never_used_twice(volume: Volume) -> None:
    file = volume.create(ROOT, b"f")
    fields = {"parent": ROOT, "name": b"g", "ino": file.ino, "mode": stat.S_IFREG}
    assert volume.errno_of(Create, **fields) == errno.EIO


def test_mkdir_counts_its_parent(volume: Volume) -> None:
    directory = volume.mkdir(ROOT, b"d", 0o7777, who=ALICE)
    assert stat.filemode(directory.mode) == "drwxrwxrwt"
    assert (directory.nlink, directory.size, directory.parent) == (2, 0, ROOT)
    assert (volume.inode(ROOT).nlink, volume.inode(ROOT).size) == (3, 1)
    volume.assert_sound()


def test_setgid_is_passed_on_to_subdirectories(volume: Volume) -> None:
    shared = volume.mkdir(ROOT, b"shared", 0o777)
    volume.do(SetAttr, ino=shared.ino, gid=2000, mode=0o2777)
    inner = volume.mkdir(shared.ino, b"inner", 0o755, who=ALICE)
    assert (inner.gid, inner.mode & 0o7777) == (2000, 0o2755)
    file = volume.create(inner.ino, b"f", stat.S_IFREG | 0o2755, who=ALICE)
    assert (file.gid, file.mode & 0o7777) == (2000, 0o2755)
    link = volume.do(Symlink, ALICE, parent=shared.ino, name=b"s", target=b"t").inode
    assert link is not None
    assert link.gid == 2000


def test_symlinks_lead_anywhere_but_nowhere(volume: Volume) -> None:
    for target, expected in (
        (b"", errno.ENOENT),
        (b"a\0b", errno.ENOENT),
        (b"t" * (SYMLINK_BYTES_MAX + 1), errno.ENAMETOOLONG),
        (b"/\xff" * (SYMLINK_BYTES_MAX // 2), 0),
    ):
        fields = {"parent": ROOT, "name": b"s", "target": target}
        assert volume.errno_of(Symlink, ALICE, **fields) == expected
    made = lookup(volume, ROOT, b"s")
    assert (made.mode, made.size, made.nlink) == (stat.S_IFLNK | 0o777, len(made.target), 1)
    assert volume.errno_of(Symlink, parent=ROOT, name=TOO_LONG, target=b"") == errno.ENOENT


def test_link_adds_a_name(volume: Volume) -> None:
    file = volume.create(ROOT, b"f")
    linked = volume.do(Link, ALICE, ino=file.ino, parent=ROOT, name=b"g").inode
    assert linked == replace(file, nlink=2, ctime_ns=volume.now_ns)
    assert lookup(volume, ROOT, b"g") == lookup(volume, ROOT, b"f") == linked
    assert volume.inode(ROOT).mtime_ns == volume.now_ns
    volume.assert_sound()


def test_link_refuses_directories_orphans_and_too_many(volume: Volume) -> None:
    directory = volume.mkdir(ROOT, b"d")
    file = volume.create(ROOT, b"f")
    fields = {"parent": ROOT, "name": b"n"}
    assert volume.errno_of(Link, ino=directory.ino, **fields) == errno.EPERM
    exists = {"parent": ROOT, "name": b"f", "ino": directory.ino}
    assert volume.errno_of(Link, **exists) == errno.EEXIST
    volume.records[inode_key(file.ino)] = replace(file, nlink=LINK_COUNT_MAX)
    assert volume.errno_of(Link, ino=file.ino, **fields) == errno.EMLINK
    volume.records[inode_key(file.ino)] = file
    volume.do(Unlink, parent=ROOT, name=b"f")
    assert volume.errno_of(Link, ino=file.ino, **fields) == errno.ENOENT
    assert volume.errno_of(Link, ino=InodeId(99), **fields) == errno.ESTALE


def test_mkdir_stops_at_the_link_limit(volume: Volume) -> None:
    root = volume.inode(ROOT)
    volume.records[inode_key(ROOT)] = replace(root, nlink=LINK_COUNT_MAX)
    assert volume.errno_of(Mkdir, parent=ROOT, name=b"d", mode=0o755) == errno.EMLINK


def test_unlink_takes_one_name_and_the_last_makes_an_orphan(volume: Volume) -> None:
    file = volume.create(ROOT, b"f", who=ALICE)
    volume.do(Link, ino=file.ino, parent=ROOT, name=b"g")
    first = volume.do(Unlink, BOB, parent=ROOT, name=b"f")
    assert first.inode == replace(file, nlink=1, ctime_ns=volume.now_ns)
    assert first.orphans == ()
    last = volume.do(Unlink, BOB, parent=ROOT, name=b"g")
    assert last.inode == replace(file, nlink=0, ctime_ns=volume.now_ns)
    assert last.orphans == (file.ino,)
    assert volume.inode(ROOT).size == 0
    volume.assert_sound(frozenset({file.ino}))


def test_rmdir_makes_an_orphan_at_once(volume: Volume) -> None:
    directory = volume.mkdir(ROOT, b"d")
    result = volume.do(Rmdir, parent=ROOT, name=b"d")
    assert result.inode is not None
    assert (result.inode.nlink, result.orphans) == (0, (directory.ino,))
    assert (volume.inode(ROOT).nlink, volume.inode(ROOT).size) == (2, 0)
    volume.assert_sound(frozenset({directory.ino}))
