"""Goal: conversions between inodes and the kernel's structures lose nothing."""

from __future__ import annotations

import os
import stat
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfs.core.messages import StatFsReply
from dfs.core.namespace.records import Inode
from dfs.limits import NS_PER_S
from dfs.mount.attributes import (
    NOW_WITHIN_NS,
    AttributeChanges,
    caller,
    directory_stub,
    entry_attributes,
    statfs_data,
)
from dfs.types import InodeId, SpaceUsage

TIMES = st.integers(-(1 << 63), (1 << 63) - 1)


PLAIN = Inode(
    ino=InodeId(5),
    mode=stat.S_IFREG | 0o644,
    uid=1,
    gid=2,
    rdev=0,
    nlink=1,
    size=0,
    atime_ns=0,
    mtime_ns=0,
    ctime_ns=0,
    btime_ns=0,
    parent=InodeId(0),
)


def file_inode(**fields: Any) -> Inode:
    """A file, but for these fields an empty one."""
    return msgspec.structs.replace(PLAIN, **fields)


@given(TIMES, TIMES, TIMES)
def test_times_keep_every_nanosecond(atime_ns: int, mtime_ns: int, ctime_ns: int) -> None:
    inode = file_inode(atime_ns=atime_ns, mtime_ns=mtime_ns, ctime_ns=ctime_ns)
    entry = entry_attributes(inode, 5)
    assert (entry.st_atime_ns, entry.st_mtime_ns, entry.st_ctime_ns) == (
        atime_ns,
        mtime_ns,
        ctime_ns,
    )


def test_sizes_owners_and_numbers() -> None:
    big = (3 << 48) | 77
    inode = file_inode(ino=InodeId(big), size=1 << 40, stored_bytes=513, uid=(1 << 32) - 2)
    entry = entry_attributes(inode, big)
    assert (entry.st_ino, entry.st_size, entry.st_blocks) == (big, 1 << 40, 2)
    assert entry.st_uid == (1 << 32) - 2
    assert (entry.entry_timeout, entry.attr_timeout, entry.generation) == (0, 0, 0)


def test_dots_are_directories() -> None:
    stub = directory_stub(9)
    assert stub.st_ino == 9
    assert stat.S_ISDIR(stub.st_mode)


def test_statfs_never_shows_more_free_than_there_is() -> None:
    space = SpaceUsage(capacity_bytes=30 * 4096, used_bytes=0, free_bytes=40 * 4096)
    data = statfs_data(StatFsReply(inode_count=7, stored_bytes=0, space=space), 3)
    assert (data.f_blocks, data.f_bfree, data.f_bavail) == (10, 10, 10)
    assert data.f_files - data.f_ffree == 7


@pytest.mark.parametrize(
    ("changes", "is_perhaps_now"),
    [
        (AttributeChanges(atime_ns=0, mtime_ns=0), True),
        (AttributeChanges(atime_ns=NOW_WITHIN_NS, mtime_ns=0), False),
        (AttributeChanges(mtime_ns=0), False),
        (AttributeChanges(atime_ns=0, mtime_ns=0, mode=0o600), False),
        (AttributeChanges(size=0), False),
    ],
)
def test_what_may_mean_now(changes: AttributeChanges, is_perhaps_now: bool) -> None:
    assert changes.may_mean_now(now_ns=0) is is_perhaps_now
    if is_perhaps_now:
        assert changes.as_now() == AttributeChanges(is_atime_now=True, is_mtime_now=True)


def test_groups_are_looked_up_for_others_than_root() -> None:
    own: Any = SimpleNamespace(uid=1000, gid=100, pid=os.getpid(), umask=0)
    assert set(caller(own).groups) == set(os.getgroups())
    gone: Any = SimpleNamespace(uid=1000, gid=100, pid=0, umask=0)
    assert caller(gone).groups == ()
    root: Any = SimpleNamespace(uid=0, gid=0, pid=os.getpid(), umask=0)
    assert caller(root).is_privileged
    assert NS_PER_S == 10**9
