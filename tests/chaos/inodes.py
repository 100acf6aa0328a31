"""What the kernel says of inodes → the records that workloads compare with their models."""

from __future__ import annotations

import errno
import os
import stat

from dfs.core.namespace.records import Inode
from dfs.types import InodeId
from tests.chaos.system_calls import inode_descriptor


def entries_of(descriptor: int) -> list[tuple[bytes, Inode]]:
    """Names, and of each inode what a listing says: number and type."""
    found = []
    with os.scandir(descriptor) as entries:
        for entry in entries:
            is_file = entry.is_file(follow_symlinks=False)
            mode = stat.S_IFREG if is_file else stat.S_IFDIR
            found.append((os.fsencode(entry.name), _bare_inode(entry.inode(), mode)))
    return found


def look(mount: int, ino: InodeId) -> Inode:
    """The inode, and where it leads if it is a symlink."""
    with inode_descriptor(mount, ino) as descriptor:
        status = os.fstat(descriptor)
        is_symlink = stat.S_ISLNK(status.st_mode)
        target = os.readlink(b"", dir_fd=descriptor) if is_symlink else b""
        return inode_of(status, target)


def inode_of(status: os.stat_result, target: bytes = b"") -> Inode:
    """A kernel shows no data version: two equal ones here mean that times, size and space are."""
    times = (status.st_mtime_ns, status.st_ctime_ns)
    return Inode(
        ino=InodeId(status.st_ino),
        mode=status.st_mode,
        uid=status.st_uid,
        gid=status.st_gid,
        rdev=status.st_rdev,
        nlink=status.st_nlink,
        size=status.st_size,
        atime_ns=status.st_atime_ns,
        mtime_ns=status.st_mtime_ns,
        ctime_ns=status.st_ctime_ns,
        btime_ns=0,
        parent=InodeId(0),
        target=target,
        data_version=hash((*times, status.st_size, status.st_blocks)),
    )


def _bare_inode(number: int, mode: int) -> Inode:
    return Inode(InodeId(number), mode, 0, 0, 0, 1, 0, 0, 0, 0, 0, InodeId(0))


def close_quietly(descriptor: int) -> None:
    """close(2), whatever it says of what was written."""
    try:
        os.close(descriptor)
    except OSError as error:
        if error.errno == errno.EBADF:
            raise
