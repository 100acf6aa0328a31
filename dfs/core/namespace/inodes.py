"""Inode records by number: the ground that the families of ops share."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from dfs.core.namespace.keys import inode_key
from dfs.core.namespace.records import Inode
from dfs.errors import FsError

if TYPE_CHECKING:
    from dfs.core.namespace.view import Overlay, View
    from dfs.types import InodeId


def damaged(what: str) -> FsError:
    """The answer to an op that meets records which contradict each other: EIO, and who repairs it.

    No assertion: contradictions on the disk are not a bug of the process that reads them.
    """
    return FsError(errno.EIO, f"{what}: run dfs fsck")


def get_inode(view: View, ino: InodeId) -> Inode:
    """The inode. Raises FsError(ESTALE) if there is none (any more), Missing."""
    inode = view.get(inode_key(ino), Inode)
    if inode is None:
        raise FsError(errno.ESTALE, f"inode {ino} is gone")
    assert inode.ino == ino
    return inode


def get_directory(view: View, ino: InodeId) -> Inode:
    """The inode of a directory. Raises FsError: ESTALE, ENOTDIR; Missing."""
    inode = get_inode(view, ino)
    if not inode.is_directory:
        raise FsError(errno.ENOTDIR)
    return inode


def put_inode(overlay: Overlay, inode: Inode) -> None:
    """Writes the inode under its own number; its type never changes."""
    old = overlay.get(inode_key(inode.ino), Inode)
    assert old is None or old.mode >> 12 == inode.mode >> 12
    assert old is None or old.btime_ns == inode.btime_ns
    overlay.put(inode_key(inode.ino), inode)
