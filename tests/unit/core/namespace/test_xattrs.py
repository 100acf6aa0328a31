"""Goal: extended attributes as xattr(7) has them: who may, which names, how large, how many."""

from __future__ import annotations

import errno
import stat
from typing import Any

import pytest
from msgspec.structs import replace

from dfs.core.namespace.keys import inode_key, xattr_key
from dfs.core.namespace.ops import (
    XATTR_CREATE,
    XATTR_REPLACE,
    RemoveXattr,
    SetAttr,
    SetXattr,
    Symlink,
)
from dfs.core.namespace.view import Overlay
from dfs.core.namespace.xattrs import (
    CAPABILITY,
    COUNT_MAX,
    drop_capability,
    get_xattr,
    list_xattrs,
)
from dfs.errors import FsError
from dfs.limits import XATTR_LIST_BYTES_MAX, XATTR_NAME_BYTES_MAX, XATTR_VALUE_BYTES_MAX
from dfs.types import Credentials, InodeId
from tests.unit.core.namespace.volume import ALICE, BOB, ROOT, ROOT_USER, Volume, with_fetches


@pytest.fixture
def volume() -> Volume:
    return Volume()


@pytest.fixture
def ino(volume: Volume) -> InodeId:
    """A file of Alice's that others may read."""
    made = volume.create(ROOT, b"f", stat.S_IFREG | 0o644)
    volume.do(SetAttr, ino=made.ino, uid=1000)
    return made.ino


def _set(volume: Volume, ino: InodeId, who: Credentials, name: bytes, **more: Any) -> int:
    return volume.errno_of(SetXattr, who, ino=ino, name=name, **{"value": b"v", **more})


def _errno_of_get(volume: Volume, ino: InodeId, name: bytes, who: Credentials | None = None) -> int:
    try:
        with_fetches(volume, lambda view: get_xattr(view, ino, name, who))
    except FsError as error:
        return error.errno
    return 0


def test_values_come_back_and_are_counted(volume: Volume, ino: InodeId) -> None:
    for name, value in ((b"user.b", b"\0\xff"), (b"user.a", b""), (b"trusted.t", b"1")):
        result = volume.do(SetXattr, ino=ino, name=name, value=value)
        assert result.inode is not None
        assert result.inode.ctime_ns == volume.now_ns > result.inode.mtime_ns
        assert get_xattr(volume, ino, name) == value
    assert list_xattrs(volume, ino) == [b"trusted.t", b"user.a", b"user.b"]
    assert list_xattrs(volume, ino, ALICE) == [b"user.a", b"user.b"]
    assert volume.inode(ino).xattr_count == 3
    removed = volume.do(RemoveXattr, ALICE, ino=ino, name=b"user.a").inode
    assert removed is not None
    assert (removed.xattr_count, removed.ctime_ns) == (2, volume.now_ns)
    assert _errno_of_get(volume, ino, b"user.a") == errno.ENODATA
    volume.assert_sound()


def test_an_inode_without_any_asks_for_nothing(volume: Volume, ino: InodeId) -> None:
    assert list_xattrs(volume, ino) == []
    assert _errno_of_get(volume, ino, b"user.a") == errno.ENODATA


def test_flags_say_whether_it_may_be_new(volume: Volume, ino: InodeId) -> None:
    assert _set(volume, ino, ALICE, b"user.a", flags=XATTR_REPLACE) == errno.ENODATA
    assert _set(volume, ino, ALICE, b"user.a", flags=XATTR_CREATE) == 0
    assert _set(volume, ino, ALICE, b"user.a", flags=XATTR_CREATE) == errno.EEXIST
    assert _set(volume, ino, ALICE, b"user.a", flags=XATTR_REPLACE, value=b"w") == 0
    assert _set(volume, ino, ALICE, b"user.a", flags=4) == errno.EINVAL
    assert get_xattr(volume, ino, b"user.a") == b"w"
    assert volume.inode(ino).xattr_count == 1


LONGEST = b"user." + b"n" * (XATTR_NAME_BYTES_MAX - 5)


@pytest.mark.parametrize(
    ("who", "name", "on_set", "on_remove", "on_get"),
    [
        (ALICE, b"user.a", 0, errno.ENODATA, errno.ENODATA),
        (BOB, b"user.a", errno.EACCES, errno.EACCES, errno.ENODATA),
        (ALICE, b"trusted.a", errno.EPERM, errno.EPERM, errno.ENODATA),
        (ROOT_USER, b"trusted.a", 0, errno.ENODATA, errno.ENODATA),
        (ALICE, b"security.a", errno.EPERM, errno.EPERM, errno.ENODATA),
        (ROOT_USER, b"security.a", 0, errno.ENODATA, errno.ENODATA),
        (ALICE, b"system.a", *[errno.EOPNOTSUPP] * 3),
        (BOB, b"system.a", *[errno.EOPNOTSUPP] * 3),
        (ALICE, b"other.a", *[errno.EOPNOTSUPP] * 3),
        (BOB, b"other.a", errno.EACCES, errno.EACCES, errno.EOPNOTSUPP),
        (ALICE, b"user.", *[errno.EINVAL] * 3),
        (ROOT_USER, b"trusted.", *[errno.EINVAL] * 3),
        (ROOT_USER, b"security.", *[errno.EINVAL] * 3),
        (ALICE, b"user", *[errno.EOPNOTSUPP] * 3),
        (ALICE, b"", *[errno.ERANGE] * 3),
        (ALICE, LONGEST, 0, errno.ENODATA, errno.ENODATA),
        (ALICE, LONGEST + b"n", *[errno.ERANGE] * 3),
        (ALICE, b"user.\0", *[errno.ERANGE] * 3),
        (ALICE, b"user.dfs.a", errno.EPERM, errno.EPERM, errno.ENODATA),
        (ROOT_USER, b"user.dfs.a", errno.EPERM, errno.EPERM, errno.ENODATA),
    ],
    ids=str,
)
def test_every_namespace_has_its_rule(
    volume: Volume,
    ino: InodeId,
    who: Credentials,
    name: bytes,
    on_set: int,
    on_remove: int,
    on_get: int,
) -> None:
    assert volume.errno_of(RemoveXattr, who, ino=ino, name=name) == on_remove
    assert _errno_of_get(volume, ino, name, who) == on_get
    assert _set(volume, ino, who, name) == on_set


def test_trusted_is_hidden_and_security_is_shown(volume: Volume, ino: InodeId) -> None:
    for name in (b"trusted.a", b"security.a"):
        volume.do(SetXattr, ino=ino, name=name, value=b"v")
    assert _errno_of_get(volume, ino, b"trusted.a", ALICE) == errno.ENODATA
    assert _errno_of_get(volume, ino, b"trusted.a", ROOT_USER) == 0
    volume.do(SetAttr, ino=ino, mode=0)
    assert _errno_of_get(volume, ino, b"security.a", BOB) == 0
    assert _errno_of_get(volume, ino, b"user.a", BOB) == errno.EACCES


def test_user_attributes_are_for_files_and_directories(volume: Volume) -> None:
    fifo = volume.create(ROOT, b"p", stat.S_IFIFO | 0o666)
    link = volume.do(Symlink, parent=ROOT, name=b"s", target=b"t").inode
    assert link is not None
    for ino in (fifo.ino, link.ino):
        assert _set(volume, ino, ROOT_USER, b"user.a") == errno.EPERM
        assert _errno_of_get(volume, ino, b"user.a", ROOT_USER) == errno.ENODATA
        assert _set(volume, ino, ROOT_USER, b"trusted.a") == 0
    assert _set(volume, ROOT, ROOT_USER, b"user.a") == 0


def test_sticky_directories_are_their_owners(volume: Volume) -> None:
    directory = volume.mkdir(ROOT, b"d")
    volume.do(SetAttr, ino=directory.ino, uid=1000, mode=0o1777)
    assert _set(volume, directory.ino, BOB, b"user.a") == errno.EPERM
    assert _set(volume, directory.ino, ALICE, b"user.a") == 0
    assert volume.errno_of(RemoveXattr, BOB, ino=directory.ino, name=b"user.a") == errno.EPERM
    volume.do(SetAttr, ino=directory.ino, mode=0o777)
    assert _set(volume, directory.ino, BOB, b"user.a") == 0


def test_values_and_counts_have_limits(volume: Volume, ino: InodeId) -> None:
    biggest = b"v" * XATTR_VALUE_BYTES_MAX
    assert _set(volume, ino, ALICE, b"user.a", value=biggest + b"v") == errno.E2BIG
    assert _set(volume, ino, ALICE, b"user.0", value=biggest) == 0
    for number in range(1, COUNT_MAX):
        assert _set(volume, ino, ALICE, b"user.%d" % number) == 0
    assert _set(volume, ino, ALICE, b"user.more") == errno.ENOSPC
    assert _set(volume, ino, ALICE, b"user.0", value=b"") == 0
    assert len(list_xattrs(volume, ino)) == COUNT_MAX
    assert COUNT_MAX * (XATTR_NAME_BYTES_MAX + 1) <= XATTR_LIST_BYTES_MAX
    volume.assert_sound()


def test_the_call_is_looked_at_before_the_rights(volume: Volume, ino: InodeId) -> None:
    huge = b"v" * (XATTR_VALUE_BYTES_MAX + 1)
    assert _set(volume, ino, BOB, b"", flags=4, value=huge) == errno.EINVAL
    assert _set(volume, ino, BOB, b"", value=huge) == errno.ERANGE
    assert _set(volume, ino, BOB, b"user.a", value=huge) == errno.E2BIG
    assert _set(volume, InodeId(99), BOB, b"user.a") == errno.ESTALE
    assert _errno_of_get(volume, InodeId(99), b"user.a") == errno.ESTALE


def test_capabilities_are_dropped_from_the_count_too(volume: Volume, ino: InodeId) -> None:
    inode = volume.inode(ino)
    overlay = Overlay(volume)
    assert drop_capability(overlay, inode) == inode
    volume.do(SetXattr, ino=ino, name=b"user.a", value=b"")
    with_another = volume.inode(ino)
    assert drop_capability(overlay, with_another) == with_another
    volume.do(SetXattr, ino=ino, name=CAPABILITY, value=b"c")
    dropped = drop_capability(overlay, volume.inode(ino))
    assert dropped.xattr_count == 1
    assert overlay.changes == {xattr_key(ino, CAPABILITY): None}


def test_a_wrong_count_is_told_not_asserted(volume: Volume, ino: InodeId) -> None:
    volume.do(SetXattr, ino=ino, name=b"user.a", value=b"")
    volume.records[inode_key(ino)] = replace(volume.inode(ino), xattr_count=0)
    assert volume.errno_of(RemoveXattr, ino=ino, name=b"user.a") == errno.EIO
