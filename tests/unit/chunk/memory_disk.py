"""A disk in memory that remembers what was synced, and fails when a test says so.

Kept beside each file: its bytes as of the last sync; beside each directory: its names as of the
last sync. A power cut keeps either nothing that was not synced, or everything but the end of the
last write.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from dfs.chunk.disk import DiskSpace
from dfs.limits import GIB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dfs.chunk.disk import Buffer


class _File:
    def __init__(self, content: bytes = b"") -> None:
        self.content = bytearray(content)
        self.synced = bytes(content)
        self.last_write_end = len(content)
        self.last_write_bytes = 0


def os_error(number: int, name: str = "") -> OSError:
    return OSError(number, os.strerror(number), name)


class MemoryDisk:
    """Implements dfs.chunk.disk.Disk. `fail(operation, errno)` makes the next such call fail."""

    def __init__(self, *, capacity_bytes: int = GIB) -> None:
        self.capacity_bytes = capacity_bytes
        self.files: dict[str, _File] = {}
        self.synced_files: dict[str, _File] = {}
        self.directories: dict[str, None] = {"": None}
        self.operation_count = 0
        self.dies_at: int | None = None
        self.sync_count = 0
        self.bytes_read = 0
        self.unreadable: dict[str, int] = {}
        """File → the offset from which on nothing can be read, until cleared."""
        self._failures: dict[str, list[int]] = {}
        self._lock_holders: dict[str, MemoryDisk] = {}
        self.is_closed = False

    # ------------------------------------------------------------ what tests do to it

    def fail(self, operation: str, number: int, *, times: int = 1) -> None:
        """The next `times` calls of a method raise this errno, after half their effect."""
        self._failures.setdefault(operation, []).extend([number] * times)

    def power_cut(self, *, is_unsynced_kept: bool = False) -> MemoryDisk:
        """The disk that the next process finds."""
        after = MemoryDisk(capacity_bytes=self.capacity_bytes)
        after.directories = dict(self.directories)
        names = self.files if is_unsynced_kept else self.synced_files
        for name, file in names.items():
            content = bytes(file.content) if is_unsynced_kept else file.synced
            if is_unsynced_kept and bytes(file.content) != file.synced:
                # The last write tore in its middle.
                content = content[: file.last_write_end - file.last_write_bytes // 2]
            after.files[name] = after.synced_files[name] = _File(content)
        return after

    def process_killed(self) -> MemoryDisk:
        """What another process finds, or the next one when only this one died: all that was
        written."""
        after = MemoryDisk(capacity_bytes=self.capacity_bytes)
        after.directories = dict(self.directories)
        after.files, after.synced_files = self.files, self.synced_files
        after._lock_holders = self._lock_holders
        return after

    def flip(self, name: str, offset: int) -> None:
        """Rot: a bit of a stored byte changes."""
        file = self.files[name]
        file.content[offset] ^= 0x10
        file.synced = bytes(file.content)

    # ------------------------------------------------------------ Disk

    def write_at(self, name: str, offset: int, buffers: Sequence[Buffer]) -> None:
        data = b"".join(bytes(buffer) for buffer in buffers)
        file = self._made(name)
        failure = self._begin("write_at")
        room = self.capacity_bytes - self._used_bytes()
        grown = max(0, offset + len(data) - len(file.content))
        if failure or grown > room:
            failure = failure or errno.ENOSPC
            data = data[: min(len(data) // 2, room)]
        file.content += bytes(max(0, offset - len(file.content)))
        file.content[offset : offset + len(data)] = data
        file.last_write_end = offset + len(data)
        file.last_write_bytes = len(data)
        if failure:
            raise os_error(failure, name)

    def read_at(self, name: str, offset: int, length: int) -> bytes:
        file = self._file(name)
        self._check("read_at", name)
        if offset + length > self.unreadable.get(name, offset + length):
            raise os_error(errno.EIO, name)
        data = bytes(file.content[offset : offset + length])
        self.bytes_read += len(data)
        return data

    def sync(self, name: str) -> None:
        file = self._file(name)
        failure = self._begin("sync")
        if failure:
            # Half of it reached the disk, and from now on the pages pass for clean.
            half = (len(file.synced) + len(file.content)) // 2
            file.synced = bytes(file.content[:half])
            raise os_error(failure, name)
        self.sync_count += 1
        file.synced = bytes(file.content)

    def sync_directory(self, name: str = "") -> None:
        assert name in self.directories
        self._check("sync_directory", name)
        prefix = f"{name}/" if name else ""
        mine = [each for each in {**self.files, **self.synced_files} if _is_in(each, prefix)]
        for each in mine:
            if each in self.files:
                self.synced_files[each] = self.files[each]
            else:
                self.synced_files.pop(each, None)

    def make_directory(self, name: str) -> None:
        self._check("make_directory", name)
        self.directories[name] = None

    def rename(self, source: str, target: str) -> None:
        self._check("rename", source)
        self.files[target] = self._file(source)
        del self.files[source]

    def remove(self, name: str) -> None:
        self._check("remove", name)
        self._file(name)
        del self.files[name]

    def truncate(self, name: str, size: int) -> None:
        file = self._file(name)
        self._check("truncate", name)
        del file.content[size:]
        file.content += bytes(size - len(file.content))
        file.last_write_end, file.last_write_bytes = size, 0

    def list(self, directory: str = "") -> list[str]:
        self._check("list", directory)
        if directory not in self.directories:
            raise os_error(errno.ENOENT, directory)
        prefix = f"{directory}/" if directory else ""
        names = [*self.files, *(each for each in self.directories if each)]
        return sorted(name.removeprefix(prefix) for name in names if _is_in(name, prefix))

    def size(self, name: str) -> int:
        self._check("size", name)
        return len(self._file(name).content)

    def space(self) -> DiskSpace:
        self._check("space", "")
        free = self.capacity_bytes - self._used_bytes()
        return DiskSpace(capacity_bytes=self.capacity_bytes, free_bytes=max(0, free))

    def lock(self, name: str) -> None:
        self._check("lock", name)
        holder = self._lock_holders.get(name)
        if holder is not None and not holder.is_closed:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), name)
        self._made(name)
        self._lock_holders[name] = self

    def close(self) -> None:
        self.is_closed = True

    # ------------------------------------------------------------ inside

    def _begin(self, operation: str) -> int:
        """The errno with which this call is to fail, 0 for none."""
        assert not self.is_closed
        self.operation_count += 1
        if self.dies_at is not None and self.operation_count >= self.dies_at:
            return errno.EIO
        failures = self._failures.get(operation, [])
        return failures.pop(0) if failures else 0

    def _check(self, operation: str, name: str) -> None:
        failure = self._begin(operation)
        if failure:
            raise os_error(failure, name)

    def _file(self, name: str) -> _File:
        if name not in self.files:
            raise os_error(errno.ENOENT, name)
        return self.files[name]

    def _made(self, name: str) -> _File:
        assert name.rpartition("/")[0] in self.directories
        return self.files.setdefault(name, _File())

    def _used_bytes(self) -> int:
        return sum(len(file.content) for file in self.files.values())


def _is_in(name: str, prefix: str) -> bool:
    return name.startswith(prefix) and "/" not in name[len(prefix) :]
