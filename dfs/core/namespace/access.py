"""Who may do what: permission bits, ownership, the sticky bit and the set-id rules.

Pure functions of inodes and credentials; they know neither views nor ops. Sources:
path_resolution(7), inode(7), and the functions of fs/namei.c and fs/attr.c in Linux that each
docstring names, because programs depend on the errno that Linux gives and on the order of its
checks.
"""

from __future__ import annotations

import errno
import stat
from typing import TYPE_CHECKING

from dfs.errors import FsError
from dfs.limits import NAME_BYTES_MAX

if TYPE_CHECKING:
    from dfs.core.namespace.records import Inode
    from dfs.types import Credentials

READ = 4
WRITE = 2
EXECUTE = 1
"""Bits of an access mask, as in access(2). On a directory EXECUTE means search."""

PERMISSION_BITS = 0o7777


def is_allowed(inode: Inode, credentials: Credentials, mask: int) -> bool:
    """Whether the mode bits, or privilege, grant every access of `mask`. Source:
    generic_permission()."""
    assert 0 < mask <= READ | WRITE | EXECUTE
    if credentials.is_privileged:
        needs_any_execute_bit = mask & EXECUTE and not inode.is_directory
        return not needs_any_execute_bit or bool(inode.mode & 0o111)
    if credentials.uid == inode.uid:
        granted = inode.mode >> 6
    elif credentials.is_in_group(inode.gid):
        granted = inode.mode >> 3
    else:
        granted = inode.mode
    return granted & mask == mask


def require(inode: Inode, credentials: Credentials, mask: int) -> None:
    """Raises FsError(EACCES) unless `mask` is granted."""
    if not is_allowed(inode, credentials, mask):
        raise FsError(errno.EACCES)


def is_owner_or_privileged(inode: Inode, credentials: Credentials) -> bool:
    """Whether the caller may act as the inode's owner. Source: inode_owner_or_capable()."""
    return credentials.is_privileged or credentials.uid == inode.uid


def is_in_group_or_privileged(gid: int, credentials: Credentials) -> bool:
    """Whether the caller may keep setgid of group `gid`. Source: in_group_or_capable()."""
    assert gid >= 0
    return credentials.is_privileged or credentials.is_in_group(gid)


def is_sticky_against(directory: Inode, inode: Inode, credentials: Credentials) -> bool:
    """Whether the directory's sticky bit keeps the caller from removing `inode`. Source:
    check_sticky()."""
    assert directory.is_directory
    if not directory.mode & stat.S_ISVTX:
        return False
    owns_one = credentials.uid in (inode.uid, directory.uid)
    return not (owns_one or credentials.is_privileged)


def require_create(directory: Inode, credentials: Credentials) -> None:
    """Checks that a name may be added: ENOENT in a removed directory, EACCES. Source:
    may_create()."""
    assert directory.is_directory
    if directory.nlink == 0:
        raise FsError(errno.ENOENT, "the directory was removed")
    require(directory, credentials, WRITE | EXECUTE)


def require_delete(
    directory: Inode, victim: Inode, credentials: Credentials, *, is_directory: bool
) -> None:
    """Checks that the victim's name may be taken away. `is_directory`: what the victim has to be.

    Raises EACCES, EPERM (sticky), then ENOTDIR or EISDIR. Source: may_delete().
    """
    assert directory.is_directory
    require(directory, credentials, WRITE | EXECUTE)
    if is_sticky_against(directory, victim, credentials):
        raise FsError(errno.EPERM, "the directory is sticky")
    if is_directory and not victim.is_directory:
        raise FsError(errno.ENOTDIR)
    if victim.is_directory and not is_directory:
        raise FsError(errno.EISDIR)


def check_name(name: bytes) -> None:
    """Raises what Linux says to a name that cannot be an entry: ENOENT if empty, ENAMETOOLONG,
    EINVAL."""
    if not name:
        raise FsError(errno.ENOENT, "the name is empty")
    if len(name) > NAME_BYTES_MAX:
        raise FsError(errno.ENAMETOOLONG)
    if b"/" in name or b"\0" in name:
        raise FsError(errno.EINVAL, "a name holds no slash and no NUL")


def new_inode_ids(directory: Inode, credentials: Credentials, mode: int) -> tuple[int, int]:
    """(mode, gid) of an inode made in `directory`: setgid directories pass on their group.

    Source: inode_init_owner() and mode_strip_sgid().
    """
    assert directory.is_directory
    assert stat.S_IFMT(mode)
    if not directory.mode & stat.S_ISGID:
        return mode, credentials.gid
    if stat.S_ISDIR(mode):
        return mode | stat.S_ISGID, directory.gid
    is_setgid_program = mode & (stat.S_ISGID | stat.S_IXGRP) == stat.S_ISGID | stat.S_IXGRP
    if is_setgid_program and not is_in_group_or_privileged(directory.gid, credentials):
        mode &= ~stat.S_ISGID
    return mode, directory.gid


def mode_without_setgid(inode: Inode, credentials: Credentials) -> int:
    """The mode after a change that takes setgid away, if it does. Source:
    setattr_should_drop_sgid()."""
    if not inode.mode & stat.S_ISGID:
        return inode.mode
    is_program = bool(inode.mode & stat.S_IXGRP)
    if is_program or not is_in_group_or_privileged(inode.gid, credentials):
        return inode.mode & ~stat.S_ISGID
    return inode.mode


def mode_after_chown(inode: Inode, credentials: Credentials) -> int:
    """The mode of what is no directory after its owner or group was set, for root too. Source:
    chown_common()."""
    assert not inode.is_directory
    return mode_without_setgid(inode, credentials) & ~stat.S_ISUID


def mode_after_write(inode: Inode, credentials: Credentials) -> int:
    """The mode of a file after its content changed. Source: setattr_should_drop_suidgid()."""
    assert inode.is_file
    if credentials.is_privileged:
        return inode.mode
    return mode_without_setgid(inode, credentials) & ~stat.S_ISUID
