"""The directory of an embedded store: who has it open, which layout it has, is its file all there.

Knows nothing of what is in the data file. Files: `owner.lock` (locked while open; holds the process
id for people), `format` (one line, replaced atomically), and the store's own.

| `format` says | meaning | opening it |
|---|---|---|
| no file, no data | nothing was made here yet | makes it |
| no file, data | not ours | EngineDamaged |
| 0 | a making that did not end | makes it anew |
| 1 | a store | opens it |
| above | made by a newer dfs | FormatTooNew |
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from dfs.engine.api import EngineBusy, EngineDamaged
from dfs.errors import FormatTooNew

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = 1
FORMAT_BEING_MADE = 0
FORMAT_NAME = "format"
LOCK_NAME = "owner.lock"
DATA_NAME = "data.mdb"
_FORMAT_PREFIX = "dfs engine lmdb format "


class StoreDirectory:
    """An opened and locked directory. `data_path` is the store's file."""

    def __init__(self, path: Path, *, is_read_only: bool) -> None:
        """Lock it: alone for writing, or shared with other readers.

        Raises EngineBusy, EngineDamaged when there is nothing to read, OSError.
        """
        self.path = path
        self.data_path = path / DATA_NAME
        if is_read_only and not (path / FORMAT_NAME).exists():
            raise EngineDamaged(f"{path}: there is no dfs store here")
        if not is_read_only:
            path.mkdir(parents=True, exist_ok=True)
        self._lock_fd = _lock(path, is_read_only=is_read_only)

    def close(self) -> None:
        """Let others open it. Called once."""
        os.close(self._lock_fd)

    def read_format(self) -> int | None:
        """What `format` says, None without the file. Raises EngineDamaged, FormatTooNew."""
        file = self.path / FORMAT_NAME
        try:
            text = file.read_bytes().decode("ascii", "replace")
        except FileNotFoundError:
            return None
        number = text.removeprefix(_FORMAT_PREFIX).removesuffix("\n")
        if not text.startswith(_FORMAT_PREFIX) or not number.isdecimal():
            raise EngineDamaged(
                f"{file}: damaged, it should be one line {_FORMAT_PREFIX + str(FORMAT)!r}; "
                f"check the disk, then restore the directory from a backup"
            )
        if int(number) > FORMAT:
            raise FormatTooNew(
                f"{self.path}: has format {number}, made by a newer dfs; "
                f"this one reads up to format {FORMAT}"
            )
        return int(number)

    def begin_making(self) -> None:
        """Note that a store is being made; what an earlier attempt left is thrown away."""
        if self.read_format() is None and self.data_path.exists():
            raise EngineDamaged(
                f"{self.path}: holds a {DATA_NAME} but no {FORMAT_NAME} file, so it is not a store "
                f"of dfs; name an empty directory, or restore {FORMAT_NAME} from a backup"
            )
        self._write_format(FORMAT_BEING_MADE)
        self.data_path.unlink(missing_ok=True)

    def end_making(self) -> None:
        """Make the new store durable and say that it is whole."""
        _sync(self.data_path)
        _sync(self.path)
        self._write_format(FORMAT)
        with suppress(PermissionError):  # a parent that may be searched but not read
            _sync(self.path.absolute().parent)

    def data_bytes(self) -> int:
        """Size of the data file. Raises EngineDamaged when it is gone or empty."""
        try:
            size = self.data_path.stat().st_size
        except FileNotFoundError:
            size = 0
        if size == 0:
            raise EngineDamaged(f"{self.data_path}: missing or empty; restore it from a backup")
        return size

    def check_not_truncated(self, needed_bytes: int) -> None:
        """Reading past the end of a mapped file kills the process, so a short one is refused."""
        size = self.data_bytes()
        if size < needed_bytes:
            raise EngineDamaged(
                f"{self.data_path}: truncated, it has {size} bytes of at least {needed_bytes}; "
                f"restore it from a backup"
            )

    def _write_format(self, number: int) -> None:
        file = self.path / FORMAT_NAME
        new_file = self.path / f"{FORMAT_NAME}.new"
        new_file.write_text(f"{_FORMAT_PREFIX}{number}\n")
        _sync(new_file)
        new_file.replace(file)
        _sync(self.path)
        assert self.read_format() == number


def _lock(path: Path, *, is_read_only: bool) -> int:
    """A descriptor that holds the lock until it is closed, also by the process's death."""
    file = path / LOCK_NAME
    flags = os.O_RDONLY if is_read_only else os.O_RDWR | os.O_CREAT
    lock_fd = os.open(file, flags | os.O_CLOEXEC, 0o644)
    kind = fcntl.LOCK_SH if is_read_only else fcntl.LOCK_EX
    try:
        fcntl.flock(lock_fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(lock_fd, 32, 0).decode("ascii", "replace").strip()
        os.close(lock_fd)
        who = f"process {owner}" if owner.isdecimal() else "another process"
        raise EngineBusy(f"{path}: in use by {who}; only one may have it open") from None
    if not is_read_only:
        os.ftruncate(lock_fd, 0)
        # For people only: a full disk must not keep a store from being opened.
        with suppress(OSError):
            os.pwrite(lock_fd, f"{os.getpid()}\n".encode(), 0)
    return lock_fd


def _sync(path: Path) -> None:
    """Make a file's bytes, or a directory's entries, durable."""
    file_fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file_fd)
    finally:
        os.close(file_fd)
