"""The disk under a chunk server: files below one root, named relative to it.

The seam for power cuts: `SystemDisk` is the real one, the simulation brings its own, and
`tests/contract/disk_contract.py` is the meaning of the protocol in executable form. All calls block
and are made from worker threads; calls on different files may run at once. Nothing here knows what
the bytes mean.

What survives a loss of power:

    content and size of a file    as of the last `sync` of it that returned
    a name (made, renamed, gone)  as of the last `sync_directory` of its directory that returned
    after a `sync` that failed    nothing that was written since the one before it may be trusted
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections import deque
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from dfs.limits import KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Buffer = bytes | bytearray | memoryview

OPEN_FILES_MAX: Final = 64
"""Files that a SystemDisk keeps open to save opening them again."""
_BUFFERS_PER_CALL_MAX: Final = 1024  # IOV_MAX of Linux
_RWF_DONTCACHE: Final = 0x80  # Linux 6.14, not yet named by the os module
BULK_BYTES_MIN: Final = 1 * MIB
"""Writes from this size on leave the page cache when they are on the disk: clients cache what they
read, and a stream of blocks would only push out everything else."""
READ_AHEAD_BYTES_MIN: Final = 128 * KIB
"""Reads from this size on are announced whole: the kernel alone would fetch them in pieces."""


class DiskSpace(msgspec.Struct, frozen=True):
    """What the filesystem under the root has, in bytes. `free_bytes` is what we may still use."""

    capacity_bytes: int
    free_bytes: int
    filesystem: str = ""
    """Names the filesystem, so that servers that share one can be told; empty: nobody shares it."""


class Disk(Protocol):
    """Files below one root. Failures are OSErrors with the errno of the system call: EIO, ENOSPC,
    EDQUOT, ENOENT (FileNotFoundError)."""

    def write_at(self, name: str, offset: int, buffers: Sequence[Buffer]) -> None:
        """Write all buffers one after the other from `offset`; makes the file when absent.

        On an error any prefix may have been written.
        """
        ...

    def read_at(self, name: str, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`, fewer only where the file ends."""
        ...

    def sync(self, name: str) -> None:
        """Make the file's content and size survive a loss of power (fdatasync(2))."""
        ...

    def sync_directory(self, name: str = "") -> None:
        """Make what was made, renamed and removed in this directory survive ("" is the root)."""
        ...

    def make_directory(self, name: str) -> None:
        """Make a directory; one that is there is fine."""
        ...

    def rename(self, source: str, target: str) -> None:
        """Give a file another name, atomically replacing what had it (rename(2))."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file."""
        ...

    def truncate(self, name: str, size: int) -> None:
        """Cut or extend (with zeros) a file to `size` bytes."""
        ...

    def list(self, directory: str = "") -> list[str]:
        """Names in a directory, sorted; may be empty."""
        ...

    def size(self, name: str) -> int:
        """Bytes of a file."""
        ...

    def space(self) -> DiskSpace:
        """Capacity and free space now."""
        ...

    def lock(self, name: str) -> None:
        """Hold the file `name` (made when absent) exclusively until `close`.

        Raises BlockingIOError when another Disk holds it.
        """
        ...

    def close(self) -> None:
        """Release every file and the lock; idempotent. No call may follow."""
        ...


class _OpenFile:
    """A descriptor and who uses it. A dirty one stays open: only the descriptor that saw the write
    is sure to be told of a failed write-back (fsync(2), "errors")."""

    __slots__ = ("descriptor", "is_dirty", "is_writable", "user_count")

    def __init__(self, descriptor: int, *, is_writable: bool) -> None:
        assert descriptor >= 0
        self.descriptor = descriptor
        self.is_writable = is_writable
        self.is_dirty = False
        self.user_count = 0


class SystemDisk:
    """A directory of this machine. Owner: one chunk server; `close` ends it."""

    def __init__(self, root: str) -> None:
        assert root
        self._root = os.path.abspath(root)
        os.makedirs(self._root, mode=0o700, exist_ok=True)
        self._mutex = threading.Lock()
        self._open_files: dict[str, _OpenFile] = {}
        self._lock_descriptor: int | None = None
        self._bulk_flags = _RWF_DONTCACHE
        self._is_closed = False

    @property
    def root(self) -> str:
        return self._root

    def write_at(self, name: str, offset: int, buffers: Sequence[Buffer]) -> None:
        assert offset >= 0
        with self._use(name, is_writable=True) as open_file:
            open_file.is_dirty = True
            self._write_all(open_file.descriptor, offset, buffers)

    def read_at(self, name: str, offset: int, length: int) -> bytes:
        assert offset >= 0
        assert length >= 0
        with self._use(name) as open_file:
            if length >= READ_AHEAD_BYTES_MIN:
                os.posix_fadvise(open_file.descriptor, offset, length, os.POSIX_FADV_WILLNEED)
            data = os.pread(open_file.descriptor, length, offset)
            while len(data) < length:
                more = os.pread(open_file.descriptor, length - len(data), offset + len(data))
                if not more:
                    break
                data += more
        assert len(data) <= length
        return data

    def sync(self, name: str) -> None:
        with self._use(name, is_writable=True, is_made=False) as open_file:
            os.fdatasync(open_file.descriptor)
            open_file.is_dirty = False

    def sync_directory(self, name: str = "") -> None:
        descriptor = os.open(self._path(name), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def make_directory(self, name: str) -> None:
        os.makedirs(self._path(name), mode=0o700, exist_ok=True)

    def rename(self, source: str, target: str) -> None:
        os.rename(self._path(source), self._path(target))
        with self._mutex:
            self._forget(source)
            self._forget(target)

    def remove(self, name: str) -> None:
        os.unlink(self._path(name))
        with self._mutex:
            self._forget(name)

    def truncate(self, name: str, size: int) -> None:
        assert size >= 0
        with self._use(name, is_writable=True, is_made=False) as open_file:
            open_file.is_dirty = True
            os.ftruncate(open_file.descriptor, size)

    def list(self, directory: str = "") -> list[str]:
        return sorted(os.listdir(self._path(directory)))

    def size(self, name: str) -> int:
        return os.stat(self._path(name)).st_size

    def space(self) -> DiskSpace:
        numbers = os.statvfs(self._root)
        return DiskSpace(
            capacity_bytes=numbers.f_blocks * numbers.f_frsize,
            free_bytes=numbers.f_bavail * numbers.f_frsize,
            filesystem=f"{os.uname().nodename}:{os.stat(self._root).st_dev}",
        )

    def lock(self, name: str) -> None:
        assert self._lock_descriptor is None
        descriptor = os.open(self._path(name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
        self._lock_descriptor = descriptor

    def close(self) -> None:
        with self._mutex:
            self._is_closed = True
            for name in list(self._open_files):
                self._forget(name)
            if self._lock_descriptor is not None:
                os.close(self._lock_descriptor)
                self._lock_descriptor = None

    def _path(self, name: str) -> str:
        assert not name.startswith("/")
        assert ".." not in name.split("/")
        return os.path.join(self._root, name) if name else self._root

    def _write_all(self, descriptor: int, offset: int, buffers: Sequence[Buffer]) -> None:
        """pwritev(2) may write less than asked; go on until everything is written."""
        pending = deque(memoryview(buffer).cast("B") for buffer in buffers if len(buffer))
        is_bulk = sum(len(buffer) for buffer in pending) >= BULK_BYTES_MIN
        while pending:
            first = list(islice(pending, _BUFFERS_PER_CALL_MAX))
            written = self._write_some(descriptor, offset, first, is_bulk=is_bulk)
            assert written > 0
            offset += written
            while pending and written >= len(pending[0]):
                written -= len(pending.popleft())
            if written:
                pending[0] = pending[0][written:]

    def _write_some(
        self, descriptor: int, offset: int, buffers: Sequence[Buffer], *, is_bulk: bool
    ) -> int:
        if is_bulk and self._bulk_flags:
            try:
                return os.pwritev(descriptor, buffers, offset, self._bulk_flags)
            except OSError as error:
                if error.errno != errno.EOPNOTSUPP:
                    raise
                self._bulk_flags = 0  # an older kernel, or a filesystem that cannot
        return os.pwritev(descriptor, buffers, offset)

    @contextmanager
    def _use(
        self, name: str, *, is_writable: bool = False, is_made: bool = True
    ) -> Iterator[_OpenFile]:
        open_file = self._take(name, is_writable=is_writable, is_made=is_made)
        try:
            yield open_file
        finally:
            with self._mutex:
                self._let_go(name, open_file)

    def _take(self, name: str, *, is_writable: bool, is_made: bool) -> _OpenFile:
        with self._mutex:
            assert not self._is_closed
            open_file = self._open_files.pop(name, None)
            if open_file is not None and is_writable and not open_file.is_writable:
                self._retire(open_file)
                open_file = None
            if open_file is None:
                open_file = self._open(name, is_writable=is_writable, is_made=is_made)
            self._open_files[name] = open_file  # the dict's order is the order of last use
            open_file.user_count += 1
            self._close_surplus()
            return open_file

    def _open(self, name: str, *, is_writable: bool, is_made: bool) -> _OpenFile:
        flags = os.O_RDWR if is_writable else os.O_RDONLY
        if is_writable and is_made:
            flags |= os.O_CREAT
        descriptor = os.open(self._path(name), flags | os.O_CLOEXEC, 0o600)
        return _OpenFile(descriptor, is_writable=is_writable)

    def _let_go(self, name: str, open_file: _OpenFile) -> None:
        assert open_file.user_count > 0
        open_file.user_count -= 1
        if self._open_files.get(name) is not open_file:
            self._retire(open_file)

    def _forget(self, name: str) -> None:
        open_file = self._open_files.pop(name, None)
        if open_file is not None:
            self._retire(open_file)

    def _retire(self, open_file: _OpenFile) -> None:
        """Close a file that left the table, unless somebody still uses it: the last one closes."""
        if open_file.user_count == 0:
            os.close(open_file.descriptor)

    def _close_surplus(self) -> None:
        surplus = len(self._open_files) - OPEN_FILES_MAX
        if surplus <= 0:
            return
        idle = [n for n, f in self._open_files.items() if f.user_count == 0 and not f.is_dirty]
        for name in idle[:surplus]:
            self._forget(name)
