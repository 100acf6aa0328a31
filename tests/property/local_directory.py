"""A real local directory, driven by the same commands as the core: what Linux itself answers."""

from __future__ import annotations

import ctypes
import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dfs.types import Credentials

UTIME_NOW = (1 << 30) - 1
UTIME_OMIT = (1 << 30) - 2
AT_SYMLINK_NOFOLLOW = 0x100
AT_EMPTY_PATH = 0x1000
_NS = 1_000_000_000
_IGNORED_XATTRS = ("security.selinux", "security.ima", "security.evm")

_libc = ctypes.CDLL(None, use_errno=True)


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class Spot(NamedTuple):
    """A path relative to an open directory."""

    directory_fd: int
    path: bytes


@contextmanager
def acting_as(who: Credentials) -> Iterator[None]:
    """Runs the block with another user's ids and none of root's capabilities."""
    os.setgroups(list(who.groups))
    os.setegid(who.gid)
    os.seteuid(who.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups([])


def _called(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def renameat2(source: Spot, target: Spot, flags: int) -> None:
    _called(
        _libc.renameat2(
            source.directory_fd,
            source.path,
            target.directory_fd,
            target.path,
            ctypes.c_uint(flags),
        )
    )


def utimensat(spot: Spot, atime_ns: int | None, mtime_ns: int | None) -> None:
    """None omits a time, a negative number means now."""
    times = (_Timespec * 2)(_timespec(atime_ns), _timespec(mtime_ns))
    _called(_libc.utimensat(spot.directory_fd, spot.path, times, AT_SYMLINK_NOFOLLOW))


def _timespec(time_ns: int | None) -> _Timespec:
    if time_ns is None:
        return _Timespec(0, UTIME_OMIT)
    if time_ns < 0:
        return _Timespec(0, UTIME_NOW)
    return _Timespec(time_ns // _NS, time_ns % _NS)


def xattr_path(spot: Spot) -> bytes:
    """The spot as one path: the xattr calls take no directory."""
    return b"/proc/self/fd/%d/%s" % (spot.directory_fd, spot.path)


def xattrs_of(path: bytes | int) -> dict[bytes, bytes]:
    follow = {} if isinstance(path, int) else {"follow_symlinks": False}
    names = [n for n in os.listxattr(path, **follow) if n not in _IGNORED_XATTRS]
    return {os.fsencode(name): os.getxattr(path, name, **follow) for name in names}


class Seen(NamedTuple):
    """What a program can see of one object, the times apart."""

    mode: int
    uid: int
    gid: int
    nlink: int
    size: int
    """0 for directories, whose size is the filesystem's own business."""
    rdev: int
    target: bytes
    content: bytes
    xattrs: dict[bytes, bytes]
    names: frozenset[bytes]


class Times(NamedTuple):
    atime_ns: int
    mtime_ns: int
    ctime_ns: int


def look(path: bytes) -> tuple[Seen, Times, int]:
    """What is to be seen at an absolute path, its times before that, and the inode number."""
    info = os.lstat(path)
    target = os.readlink(path) if stat.S_ISLNK(info.st_mode) else b""
    content = b""
    names: frozenset[bytes] = frozenset()
    if stat.S_ISREG(info.st_mode):
        content = _content(os.open(path, os.O_RDONLY | os.O_NOATIME), info.st_size)
    elif stat.S_ISDIR(info.st_mode):
        names = frozenset(os.listdir(path))
    return _seen(info, xattrs_of(path), target, content, names), _times(info), info.st_ino


def look_at_open(fd: int) -> tuple[Seen, Times]:
    """As `look`, for an open file that may have lost its name."""
    info = os.fstat(fd)
    content = _content(os.open(b"/proc/self/fd/%d" % fd, os.O_RDONLY | os.O_NOATIME), info.st_size)
    return _seen(info, xattrs_of(fd), b"", content, frozenset()), _times(info)


def _content(fd: int, size: int) -> bytes:
    try:
        content = os.pread(fd, size + 1, 0)
    finally:
        os.close(fd)
    assert len(content) == size
    return content


def _seen(
    info: os.stat_result,
    xattrs: dict[bytes, bytes],
    target: bytes,
    content: bytes,
    names: frozenset[bytes],
) -> Seen:
    is_directory = stat.S_ISDIR(info.st_mode)
    return Seen(
        mode=info.st_mode,
        uid=info.st_uid,
        gid=info.st_gid,
        nlink=info.st_nlink,
        size=0 if is_directory else info.st_size,
        rdev=info.st_rdev,
        target=target,
        content=content,
        xattrs=xattrs,
        names=names,
    )


def _times(info: os.stat_result) -> Times:
    return Times(info.st_atime_ns, info.st_mtime_ns, info.st_ctime_ns)


class LocalDirectory:
    """A directory of our own on a real filesystem, and what is held open in it."""

    def __init__(self, path: Path, mode: int) -> None:
        self.path = os.fsencode(path)
        os.mkdir(self.path)
        os.chmod(self.path, mode)
        self.root_fd = os.open(self.path, os.O_PATH | os.O_DIRECTORY)
        self.directories: dict[int, int] = {}
        self.files: dict[int, int] = {}

    def close(self) -> None:
        fds = [self.root_fd, *self.directories.values(), *self.files.values()]
        for fd in fds:
            with suppress(OSError):
                os.close(fd)


def has_fine_times(path: Path) -> bool:
    """Whether every change shows in ctime, however fast changes follow each other (Linux ≥
    6.13)."""
    probe = os.fsencode(path / "probe")
    os.close(os.open(probe, os.O_CREAT | os.O_WRONLY))
    try:
        for _ in range(50):
            before = os.stat(probe).st_ctime_ns
            os.chmod(probe, 0o600)
            if os.stat(probe).st_ctime_ns == before:
                return False
        return True
    finally:
        os.unlink(probe)
