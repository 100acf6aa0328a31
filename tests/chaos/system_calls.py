"""System calls that Python lacks: inodes by number, and renames and links of them.

A mount of dfs hands out file handles (open_by_handle_at(2)) that consist of the inode number, and
they survive a remount, as an NFS server needs it.
"""

from __future__ import annotations

import ctypes
import os
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

FILEID_INO64_GEN = 0x81
"""What FUSE calls a handle of number and generation (include/linux/exportfs.h)."""
AT_EMPTY_PATH = 0x1000
_libc = ctypes.CDLL(None, use_errno=True)


def open_inode(mount: int, ino: int, flags: int) -> int:
    """A descriptor of the inode `ino` of the mount that the descriptor `mount` belongs to."""
    number = struct.pack("=III", ino >> 32, ino & 0xFFFFFFFF, 0)
    handle = struct.pack("=Ii", len(number), FILEID_INO64_GEN) + number
    return _checked(_libc.open_by_handle_at(mount, handle, flags | os.O_CLOEXEC))


@contextmanager
def inode_path(mount: int, ino: int) -> Iterator[str]:
    """A path that leads to the inode, for calls that take no descriptor. Symlinks are not
    followed."""
    with inode_descriptor(mount, ino) as descriptor:
        yield f"/proc/self/fd/{descriptor}"


@contextmanager
def inode_descriptor(mount: int, ino: int) -> Iterator[int]:
    """An O_PATH descriptor, which holds nothing open at the filesystem."""
    descriptor = open_inode(mount, ino, os.O_PATH | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def link_descriptor(descriptor: int, directory: int, name: bytes) -> None:
    """linkat(2) of what an O_PATH descriptor is of."""
    _checked(_libc.linkat(descriptor, b"", directory, name, AT_EMPTY_PATH))


def rename(old: tuple[int, bytes], new: tuple[int, bytes], flags: int) -> None:
    """renameat2(2); both places are (descriptor of the directory, name)."""
    _checked(_libc.renameat2(old[0], old[1], new[0], new[1], flags))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
