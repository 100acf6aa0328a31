"""Goal: chmod, chown, truncate and utimensat as Linux means them. Method: tables of who asks for
what, with every errno in the order of the kernel's checks.
"""

from __future__ import annotations

import errno
import stat
from typing import Any

import pytest
from msgspec.structs import replace

from dfs.core.namespace.ops import SetAttr, SetXattr, Symlink, Unlink
from dfs.core.namespace.xattrs import CAPABILITY
from dfs.limits import FILE_BYTES_MAX, TIME_NS_MAX, TIME_NS_MIN
from dfs.types import Credentials
from tests.unit.core.namespace.volume import ALICE, BOB, ROOT, ROOT_USER, START_NS, Volume

MEMBER = Credentials(1003, 2000)


@pytest.fixture
def volume() -> Volume:
    return Volume()


def _file(volume: Volume, mode: int = 0o644, gid: int = 2000) -> Any:
    """A file of Alice's, of a group that she is in."""
    made = volume.create(ROOT, b"f", stat.S_IFREG | mode)
    volume.do(SetAttr, ino=made.ino, uid=1000, gid=gid)
    return volume.do(SetAttr, ino=made.ino, mode=mode).inode


def _directory(volume: Volume, mode: int = 0o755) -> Any:
    made = volume.mkdir(ROOT, b"d")
    return volume.do(SetAttr, ino=made.ino, uid=1000, gid=2000, mode=mode).inode


@pytest.mark.parametrize(
    ("who", "change", "expected"),
    [
        (ALICE, {"mode": 0o600}, 0),
        (BOB, {"mode": 0o600}, errno.EPERM),
        (ROOT_USER, {"mode": 0o600}, 0),
        (ALICE, {"uid": 1000}, 0),
        (ALICE, {"uid": 1001}, errno.EPERM),
        (BOB, {"uid": 1000}, errno.EPERM),
        (ROOT_USER, {"uid": 1001}, 0),
        (ALICE, {"gid": 2000}, 0),
        (ALICE, {"gid": 1000}, 0),
        (ALICE, {"gid": 3000}, errno.EPERM),
        (BOB, {"gid": 2000}, errno.EPERM),
        (MEMBER, {"gid": 2000}, errno.EPERM),
        (ROOT_USER, {"gid": 3000}, 0),
        (ALICE, {"uid": 1000, "gid": 3000}, errno.EPERM),
        (ALICE, {"size": 5}, 0),
        (BOB, {"size": 5}, errno.EACCES),
        (BOB, {"size": 5, "has_handle": True}, 0),
        (ROOT_USER, {"size": FILE_BYTES_MAX}, 0),
        (ALICE, {"size": FILE_BYTES_MAX + 1}, errno.EFBIG),
        (BOB, {"size": FILE_BYTES_MAX + 1}, errno.EACCES),
        (ALICE, {"atime_ns": 5}, 0),
        (BOB, {"atime_ns": 5}, errno.EPERM),
        (BOB, {"mtime_ns": 5}, errno.EPERM),
        (BOB, {"is_atime_now": True, "is_mtime_now": True}, errno.EACCES),
        (BOB, {"is_mtime_now": True}, errno.EPERM),
        (BOB, {"is_atime_now": True, "mtime_ns": 5}, errno.EPERM),
        (ALICE, {"is_atime_now": True, "is_mtime_now": True}, 0),
        # O_TRUNC sends the size and a time of now.
        (BOB, {"size": 0, "is_mtime_now": True, "has_handle": True}, 0),
        (BOB, {}, 0),
    ],
    ids=str,
)
def test_who_may_change_what(
    volume: Volume, who: Credentials, change: dict[str, Any], expected: int
) -> None:
    file = _file(volume)
    assert volume.errno_of(SetAttr, who, ino=file.ino, **change) == expected


def test_writers_may_touch_and_truncate(volume: Volume) -> None:
    file = _file(volume, 0o666)
    assert volume.errno_of(SetAttr, BOB, ino=file.ino, size=5) == 0
    now = {"is_atime_now": True, "is_mtime_now": True}
    assert volume.errno_of(SetAttr, BOB, ino=file.ino, **now) == 0
    touched = volume.inode(file.ino)
    assert {touched.atime_ns, touched.mtime_ns, touched.ctime_ns} == {volume.now_ns}
    assert volume.errno_of(SetAttr, BOB, ino=file.ino, is_atime_now=True) == errno.EPERM


def test_only_files_have_a_size_to_set(volume: Volume) -> None:
    directory = _directory(volume)
    fifo = volume.create(ROOT, b"p", stat.S_IFIFO | 0o666)
    link = volume.do(Symlink, parent=ROOT, name=b"s", target=b"t").inode
    assert link is not None
    # The type is told before permission, permission before the limit.
    for ino, expected in ((directory.ino, errno.EISDIR), (fifo.ino, errno.EINVAL)):
        assert volume.errno_of(SetAttr, BOB, ino=ino, size=FILE_BYTES_MAX + 1) == expected
    assert volume.errno_of(SetAttr, ino=link.ino, size=0) == errno.EINVAL
    assert volume.errno_of(SetAttr, ino=link.ino, mode=0o644) == errno.EOPNOTSUPP
    assert volume.errno_of(SetAttr, ino=link.ino, uid=5) == 0
    assert volume.errno_of(SetAttr, ino=99, mode=0) == errno.ESTALE


def test_nothing_asked_changes_nothing(volume: Volume) -> None:
    file = _file(volume)
    before = dict(volume.records)
    assert volume.do(SetAttr, BOB, ino=file.ino).inode == file
    assert volume.records == before


@pytest.mark.parametrize(
    ("who", "gid", "asked", "expected"),
    [
        (ALICE, 2000, 0o2755, 0o2755),
        # The owner is not in the file's group.
        (ALICE, 3000, 0o2755, 0o755),
        (ROOT_USER, 3000, 0o2755, 0o2755),
        (ALICE, 2000, 0o7777, 0o7777),
        (ALICE, 2000, 0o100000 | 0o644, 0o644),
    ],
)
def test_chmod_sets_the_bits_it_may(
    volume: Volume, who: Credentials, gid: int, asked: int, expected: int
) -> None:
    file = _file(volume, gid=gid)
    changed = volume.do(SetAttr, who, ino=file.ino, mode=asked).inode
    mode = stat.S_IFREG | expected
    assert changed == replace(file, mode=mode, ctime_ns=volume.now_ns)
    directory = _directory(volume)
    volume.do(SetAttr, ino=directory.ino, gid=gid)
    changed = volume.do(SetAttr, who, ino=directory.ino, mode=asked).inode
    assert changed is not None
    assert changed.mode == stat.S_IFDIR | expected


@pytest.mark.parametrize("who", [ALICE, ROOT_USER])
@pytest.mark.parametrize("change", [{"uid": 1000}, {"gid": 1000}, {"uid": 1000, "gid": 1000}])
def test_chown_takes_set_id_and_capabilities_from_files(
    volume: Volume, who: Credentials, change: dict[str, int]
) -> None:
    file = _file(volume, 0o6775)
    volume.do(SetXattr, ino=file.ino, name=CAPABILITY, value=b"c")
    changed = volume.do(SetAttr, who, ino=file.ino, **change).inode
    assert changed is not None
    assert (changed.mode & 0o7777, changed.xattr_count) == (0o775, 0)
    volume.assert_sound()


def test_chown_keeps_setgid_of_directories_and_of_locks(volume: Volume) -> None:
    directory = _directory(volume, 0o2775)
    changed = volume.do(SetAttr, ALICE, ino=directory.ino, gid=1000).inode
    assert changed is not None
    assert changed.mode & 0o7777 == 0o2775
    file = _file(volume, 0o2764)
    changed = volume.do(SetAttr, ALICE, ino=file.ino, gid=1000).inode
    assert changed is not None
    assert (changed.mode & 0o7777, changed.gid) == (0o2764, 1000)


def test_a_mode_given_with_the_owner_is_the_mode(volume: Volume) -> None:
    file = _file(volume, 0o644)
    changed = volume.do(SetAttr, ino=file.ino, uid=1001, mode=0o4755).inode
    assert changed is not None
    assert (changed.uid, changed.mode & 0o7777) == (1001, 0o4755)


@pytest.mark.parametrize(("who", "expected"), [(ALICE, 0o777), (BOB, 0o777), (ROOT_USER, 0o6777)])
@pytest.mark.parametrize("size", [0, 3, 100])
def test_truncate_takes_set_id_from_the_unprivileged(
    volume: Volume, who: Credentials, expected: int, size: int
) -> None:
    file = _file(volume, 0o6777)
    volume.do(SetXattr, ino=file.ino, name=CAPABILITY, value=b"c")
    changed = volume.do(SetAttr, who, ino=file.ino, size=size).inode
    assert changed is not None
    assert (changed.mode & 0o7777, changed.size, changed.xattr_count) == (expected, size, 0)
    assert changed.mtime_ns == changed.ctime_ns == volume.now_ns
    assert changed.data_version == file.data_version + 1


def test_times_are_exact_and_independent(volume: Volume) -> None:
    file = _file(volume)
    times = {"atime_ns": TIME_NS_MIN, "mtime_ns": TIME_NS_MAX}
    changed = volume.do(SetAttr, ALICE, ino=file.ino, **times).inode
    assert changed == replace(file, ctime_ns=volume.now_ns, **times)
    changed = volume.do(SetAttr, ino=file.ino, is_atime_now=True, mtime_ns=-1).inode
    assert changed is not None
    assert (changed.atime_ns, changed.mtime_ns) == (volume.now_ns, -1)
    assert changed.btime_ns == file.btime_ns >= START_NS
    changed = volume.do(SetAttr, ino=file.ino, size=9, mtime_ns=-5).inode
    assert changed is not None
    assert changed.mtime_ns == -5


def test_what_has_no_name_can_still_be_changed(volume: Volume) -> None:
    file = _file(volume)
    volume.do(Unlink, parent=ROOT, name=b"f")
    changed = volume.do(SetAttr, ALICE, ino=file.ino, mode=0o600, size=7).inode
    assert changed is not None
    assert (changed.nlink, changed.size, changed.mode & 0o777) == (0, 7, 0o600)
