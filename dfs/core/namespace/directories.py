"""Directories as maps of names: finding entries, listing them, and keeping a directory's own record
in step.

size = number of entries, nlink = 2 + subdirectories, mtime and ctime = the last change of either.
The checks of a path's end run in the order of fs/namei.c in Linux: ENOTDIR, search permission, the
name.
"""

from __future__ import annotations

import errno
import stat
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from dfs.core.namespace import access
from dfs.core.namespace.inodes import damaged, get_directory, get_inode, put_inode
from dfs.core.namespace.keys import dentry_key, dentry_range, inode_key, name_of, orphan_key
from dfs.core.namespace.records import Dentry, Inode, Orphan
from dfs.core.namespace.view import ScanRange, Together
from dfs.errors import FsError
from dfs.limits import NAME_BYTES_MAX

if TYPE_CHECKING:
    from dfs.core.namespace.view import Overlay, View
    from dfs.types import Credentials, InodeId

_DOTS = (b".", b"..")


class Place(NamedTuple):
    """A name in a directory, and the inode that it leads to or None."""

    directory: Inode
    name: bytes
    inode: Inode | None


def lookup(view: View, parent: InodeId, name: bytes) -> Inode:
    """As `seek`, but raises FsError(ENOENT) if there is no such entry."""
    inode = seek(view, parent, name)
    if inode is None:
        raise FsError(errno.ENOENT)
    return inode


def seek(view: View, parent: InodeId, name: bytes) -> Inode | None:
    """The inode that the name leads to, if it does; `.` and `..` work. Checks no permission.

    Raises FsError: ESTALE, ENOTDIR, ENAMETOOLONG; Missing.
    """
    directory = get_directory(view, parent)
    if name in _DOTS:
        return directory if name == b"." else get_inode(view, directory.parent)
    access.check_name(name)
    return _entry(view, directory, name)


def read_directory(view: View, ino: InodeId, after: bytes, limit: int) -> list[tuple[bytes, Inode]]:
    """The first `limit` entries whose names sort after `after`, by name; without `.` and `..`.

    Raises FsError: ESTALE, ENOTDIR; Missing.
    """
    assert limit > 0
    assert len(after) <= NAME_BYTES_MAX
    get_directory(view, ino)
    rows = view.scan(ScanRange(*dentry_range(ino, after), limit), Dentry)
    with Together(view) as reads:
        inodes = [reads.get(inode_key(dentry.ino), Inode) for _, dentry in rows]
    pairs = zip(rows, inodes, strict=True)
    return [(name_of(key), inode) for (key, _), inode in pairs if inode is not None]


def _entry(view: View, directory: Inode, name: bytes) -> Inode | None:
    dentry = view.get(dentry_key(directory.ino, name), Dentry)
    if dentry is None:
        return None
    inode = view.get(inode_key(dentry.ino), Inode)
    if inode is None or inode.nlink == 0 or stat.S_IFMT(inode.mode) != dentry.file_type:
        raise damaged(f"an entry of directory {directory.ino} does not fit inode {dentry.ino}")
    return inode


def walk_to(view: View, parent: InodeId, credentials: Credentials) -> Inode:
    """The directory, as the end of a path walk finds it. Raises FsError: ESTALE, ENOTDIR,
    EACCES."""
    directory = get_directory(view, parent)
    access.require(directory, credentials, access.EXECUTE)
    return directory


def find(view: View, directory: Inode, name: bytes) -> Place:
    """The place of the last name. Raises FsError: ENOENT (the directory was removed),
    ENAMETOOLONG."""
    assert name not in _DOTS
    if directory.nlink == 0:
        raise FsError(errno.ENOENT, "the directory was removed")
    access.check_name(name)
    return Place(directory, name, _entry(view, directory, name))


def is_dots(name: bytes) -> bool:
    """Whether the name is `.` or `..`, which no op may make or take away."""
    return name in _DOTS


# ---------------------------------------------------------------- changes


def put_entry(overlay: Overlay, parent: InodeId, name: bytes, inode: Inode) -> None:
    """Writes one entry; what the name led to before is the caller's to care for."""
    assert inode.nlink > 0
    dentry = Dentry(ino=inode.ino, file_type=stat.S_IFMT(inode.mode))
    overlay.put(dentry_key(parent, name), dentry)


def count_entries(
    overlay: Overlay, ino: InodeId, now_ns: int, *, entries: int = 0, subdirectories: int = 0
) -> None:
    """Counts changed entries into a directory's size, nlink, mtime and ctime."""
    directory = get_directory(overlay, ino)
    assert directory.nlink > 0
    size, nlink = directory.size + entries, directory.nlink + subdirectories
    if not size >= nlink - 2 >= 0:
        raise damaged(f"directory {ino} counts {directory.size} entries, {directory.nlink} links")
    directory = msgspec.structs.replace(
        directory, size=size, nlink=nlink, mtime_ns=now_ns, ctime_ns=now_ns
    )
    put_inode(overlay, directory)


def drop_name(overlay: Overlay, inode: Inode, now_ns: int) -> Inode:
    """The inode, written with one name less; without any it is marked as an orphan (a directory at
    once)."""
    assert inode.nlink > 0
    nlink = 0 if inode.is_directory else inode.nlink - 1
    inode = msgspec.structs.replace(inode, nlink=nlink, ctime_ns=now_ns)
    put_inode(overlay, inode)
    if nlink == 0:
        overlay.put(orphan_key(inode.ino), Orphan())
    return inode


def require_empty(victim: Inode) -> None:
    """Raises FsError(ENOTEMPTY) for a directory with entries."""
    if victim.is_directory and victim.size:
        raise FsError(errno.ENOTEMPTY)
