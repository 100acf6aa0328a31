"""The disk of the simulation: a `Disk` that forgets at a power cut what nobody synced.

A `Platter` is what a machine's disk holds; it outlives processes. A `SimDisk` is one process's way
to it. Beside what is written the platter keeps what was synced, for files and for directories, and
the changes in between in their order.

Faults injected here. At a power cut, of each file and each directory any prefix of the unsynced
changes survives; the last surviving write may be torn at any byte, and where it tore the file may
have its full length, filled with zeros. A rename survives wholly or not at all. A full disk writes
a prefix and says ENOSPC. A bad disk (`error_chance`) fails reads, writes and syncs now and then;
what a failed sync was to write, no later sync writes. `flip` lets a stored bit rot. Syncs take
milliseconds, now and then much longer; of a slow disk (`slow_s`) seconds, and so do reads. A
process may be armed to die at any disk operation, before or after its effect.
"""

from __future__ import annotations

import errno
import os
import random
from typing import TYPE_CHECKING

from dfs.chunk.disk import DiskSpace
from dfs.limits import GIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dfs.chunk.disk import Buffer
    from tests.simulation.process import Process
    from tests.simulation.trace import Trace

CAPACITY_BYTES = 4 * GIB
SYNC_S = 0.002
SLOW_SYNC_CHANCE = 0.02
SLOW_SYNC_S = 0.3
TORN_CHANCE = 0.5
ZERO_TAIL_CHANCE = 0.3

Write = tuple[int, bytes]
"""Offset and bytes; or (size, b"") for a change of size by truncate."""


class _File:
    """One file: its bytes as written, as of the last sync, and the changes since."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.synced = bytearray()
        self.unsynced: list[Write] = []

    def write(self, offset: int, data: bytes) -> None:
        assert data
        _apply(self.content, (offset, data))
        self.unsynced.append((offset, data))

    def truncate(self, size: int) -> None:
        _apply(self.content, (size, b""))
        self.unsynced.append((size, b""))

    def sync(self) -> int:
        """Everything survives from now on. Returns how many changes that secured."""
        count = len(self.unsynced)
        for change in self.unsynced:
            _apply(self.synced, change)
        self.unsynced.clear()
        return count

    def fail_sync(self) -> None:
        """What was written since the last sync is only in memory, and no later sync writes it: the
        kernel takes the pages for clean."""
        self.unsynced.clear()

    def power_cut(self, chooser: random.Random) -> None:
        """Keep what was synced and a random prefix of what came after."""
        kept = self.unsynced[: chooser.randint(0, len(self.unsynced))]
        content = bytearray(self.synced)
        for change in kept[:-1]:
            _apply(content, change)
        if kept:
            _apply_last(content, kept[-1], chooser)
        self.content, self.synced = content, bytearray(content)
        self.unsynced.clear()


def _apply(content: bytearray, change: Write) -> None:
    offset, data = change
    if not data:
        del content[offset:]
    if len(content) < offset:
        content += bytes(offset - len(content))
    content[offset : offset + len(data)] = data


def _apply_last(content: bytearray, change: Write, chooser: random.Random) -> None:
    offset, data = change
    if not data or chooser.random() >= TORN_CHANCE:
        _apply(content, change)
        return
    torn = data[: chooser.randint(0, len(data))]
    if torn:
        _apply(content, (offset, torn))
    if len(content) < offset + len(data) and chooser.random() < ZERO_TAIL_CHANCE:
        content += bytes(offset + len(data) - len(content))


class _Directory:
    """One directory: its entries now, as of the last sync, and the changes since (name → what has
    it from then on, None for nothing)."""

    def __init__(self) -> None:
        self.entries: dict[str, _File | _Directory] = {}
        self.synced: dict[str, _File | _Directory] = {}
        self.unsynced: list[dict[str, _File | _Directory | None]] = []

    def change(self, changes: dict[str, _File | _Directory | None]) -> None:
        """One change: all names at once or none."""
        _change(self.entries, changes)
        self.unsynced.append(changes)

    def sync(self) -> int:
        count = len(self.unsynced)
        self.synced = dict(self.entries)
        self.unsynced.clear()
        return count

    def power_cut(self, chooser: random.Random) -> None:
        kept = self.unsynced[: chooser.randint(0, len(self.unsynced))]
        self.entries = dict(self.synced)
        for changes in kept:
            _change(self.entries, changes)
        self.sync()
        for name in sorted(self.entries):
            self.entries[name].power_cut(chooser)


def _change(
    entries: dict[str, _File | _Directory], changes: dict[str, _File | _Directory | None]
) -> None:
    for name, target in changes.items():
        if target is None:
            entries.pop(name, None)
        else:
            entries[name] = target


class Platter:
    """What one machine's disk holds. `lock_holder` is the process that holds a file's lock."""

    def __init__(
        self, host: str, seed: str, trace: Trace, *, capacity_bytes: int = CAPACITY_BYTES
    ) -> None:
        self.host = host
        self.root = _Directory()
        self.capacity_bytes = capacity_bytes
        self.locks: dict[str, SimDisk] = {}
        self.slow_s = 0.0
        """Mean time that every read and sync takes beyond what is usual."""
        self.error_chance = 0.0
        """How often a read, a write or a sync fails."""
        self.random = random.Random(f"{seed}/disk/{host}")
        self.trace = trace

    def power_cut(self) -> None:
        """Forget what was not synced, but a random part of it."""
        self.root.power_cut(self.random)
        self.trace.note("disk forgets what was not synced", who=self.host)

    def used_bytes(self) -> int:
        return _used_bytes(self.root)

    def file_names(self) -> list[str]:
        """Every file, by name from the root, sorted."""
        return sorted(_file_names(self.root, ""))

    def size(self, name: str) -> int:
        file = _find(self.root, name)
        assert isinstance(file, _File)
        return len(file.content)

    def flip(self, name: str, offset: int) -> None:
        """Rot: one bit of a stored byte is another one."""
        file = _find(self.root, name)
        assert isinstance(file, _File)
        file.content[offset] ^= 1 << self.random.randrange(8)
        if offset < len(file.synced):
            file.synced[offset] = file.content[offset]
        self.trace.note(f"disk: a bit of {name} flips at {offset}", who=self.host)


def _used_bytes(directory: _Directory) -> int:
    return sum(
        len(entry.content) if isinstance(entry, _File) else _used_bytes(entry)
        for entry in directory.entries.values()
    )


def _file_names(directory: _Directory, prefix: str) -> Iterator[str]:
    for name, entry in directory.entries.items():
        if isinstance(entry, _File):
            yield prefix + name
        else:
            yield from _file_names(entry, f"{prefix}{name}/")


def _find(root: _Directory, name: str) -> _File | _Directory:
    entry: _File | _Directory = root
    for part in name.split("/") if name else []:
        if not isinstance(entry, _Directory) or part not in entry.entries:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        entry = entry.entries[part]
    return entry


class SimDisk:
    """A process's way to its machine's disk. Is a dfs.chunk.disk.Disk."""

    def __init__(
        self,
        platter: Platter,
        *,
        operation: Callable[[], None] = lambda: None,
        charge: Callable[[float], None] = lambda seconds: None,
        is_alive: Callable[[], bool] = lambda: True,
    ) -> None:
        self._platter = platter
        self._operation = operation
        self._charge = charge
        self._is_alive = is_alive
        self._is_closed = False

    @classmethod
    def of_process(cls, platter: Platter, process: Process) -> SimDisk:
        """The disk as this process uses it: gone when the process is dead."""
        return cls(
            platter,
            operation=process.operation,
            charge=process.charge,
            is_alive=lambda: process.is_alive,
        )

    def write_at(self, name: str, offset: int, buffers: Sequence[Buffer]) -> None:
        assert offset >= 0
        self._begin()
        file = self._file(name, is_made=True)
        data = b"".join(bytes(buffer) for buffer in buffers)
        grown = max(0, offset + len(data) - len(file.content))
        short = grown - self._free_bytes()
        error = self._error(name, errno.EIO, errno.ENOSPC)
        if short > 0:
            data = data[: max(0, len(data) - short)]
            error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
        elif error is not None:
            data = data[: self._platter.random.randint(0, len(data))]
        if data:
            file.write(offset, data)
        self._operation()
        if error is not None:
            raise error

    def read_at(self, name: str, offset: int, length: int) -> bytes:
        assert offset >= 0
        assert length >= 0
        self._begin()
        data = bytes(self._file(name).content[offset : offset + length])
        if self._platter.slow_s:
            self._charge(self._platter.random.expovariate(1 / self._platter.slow_s))
        error = self._error(name, errno.EIO)
        if error is not None:
            raise error
        return data

    def sync(self, name: str) -> None:
        self._begin()
        file = self._file(name)
        error = self._error(name, errno.EIO)
        if error is not None:
            file.fail_sync()
            raise error
        self._note_sync(name, file.sync())

    def sync_directory(self, name: str = "") -> None:
        self._begin()
        count = self._directory(name).sync()
        self._note_sync(name or ".", count)

    def _note_sync(self, name: str, count: int) -> None:
        chooser = self._platter.random
        self._charge(chooser.expovariate(1 / (SYNC_S + self._platter.slow_s)))
        if chooser.random() < SLOW_SYNC_CHANCE:
            self._charge(chooser.uniform(0, SLOW_SYNC_S))
        self._platter.trace.note(f"disk syncs {name}: {count} changes")
        self._operation()

    def make_directory(self, name: str) -> None:
        self._begin()
        directory = self._platter.root
        for part in name.split("/") if name else []:
            if part not in directory.entries:
                directory.change({part: _Directory()})
            entry = directory.entries[part]
            if not isinstance(entry, _Directory):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
            directory = entry
        self._operation()

    def rename(self, source: str, target: str) -> None:
        self._begin()
        file = self._file(source)
        place, _, source_name = source.rpartition("/")
        target_place, _, target_name = target.rpartition("/")
        assert place == target_place, "across directories: nobody needs it so far"
        if source_name != target_name:
            self._directory(place).change({source_name: None, target_name: file})
        self._operation()

    def remove(self, name: str) -> None:
        self._begin()
        self._file(name)
        place, _, last = name.rpartition("/")
        self._directory(place).change({last: None})
        self._operation()

    def truncate(self, name: str, size: int) -> None:
        assert size >= 0
        self._begin()
        self._file(name).truncate(size)
        self._operation()

    def list(self, directory: str = "") -> list[str]:
        self._begin()
        return sorted(self._directory(directory).entries)

    def size(self, name: str) -> int:
        self._begin()
        return len(self._file(name).content)

    def space(self) -> DiskSpace:
        self._begin()
        return DiskSpace(capacity_bytes=self._platter.capacity_bytes, free_bytes=self._free_bytes())

    def lock(self, name: str) -> None:
        self._begin()
        holder = self._platter.locks.get(name)
        if holder is not None and holder is not self and not holder.is_gone:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), name)
        self._file(name, is_made=True)
        self._platter.locks[name] = self

    def close(self) -> None:
        self._is_closed = True

    @property
    def is_gone(self) -> bool:
        """Closed, or its process is dead: its locks are released."""
        return self._is_closed or not self._is_alive()

    def _begin(self) -> None:
        assert not self._is_closed
        self._operation()

    def _error(self, name: str, *numbers: int) -> OSError | None:
        """The disk fails now and then, if it is a bad one."""
        chooser = self._platter.random
        if not self._platter.error_chance or chooser.random() >= self._platter.error_chance:
            return None
        number = chooser.choice(numbers)
        self._platter.trace.note(f"disk: {errno.errorcode[number]} at {name}")
        return OSError(number, os.strerror(number), name)

    def _free_bytes(self) -> int:
        return max(0, self._platter.capacity_bytes - self._platter.used_bytes())

    def _file(self, name: str, *, is_made: bool = False) -> _File:
        place, _, last = name.rpartition("/")
        directory = self._directory(place)
        if last not in directory.entries:
            if not is_made:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
            directory.change({last: _File()})
        file = directory.entries[last]
        if not isinstance(file, _File):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
        return file

    def _directory(self, name: str) -> _Directory:
        directory = _find(self._platter.root, name)
        if not isinstance(directory, _Directory):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)
        return directory
