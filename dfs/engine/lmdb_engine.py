"""The default engine: LMDB inside the process, one directory, one writer.

Every commit is one LMDB write transaction, begun and ended in one function on the calling thread,
on stable storage when it returns (fdatasync, then the meta page). LMDB maps its file at a fixed
size; the map doubles when it is full, and the file is always as long as the map (sparse), so that a
file shorter than its last page can only be a damaged one.

Locks, in this order: `_write_lock` (one writer; also whoever changes the map), `_gate` (shared by
whoever reads the map, exclusive to change or drop it). Source: lmdb.h, "Caveats" and
mdb_env_set_mapsize.
"""

from __future__ import annotations

import errno
import os
import threading
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, cast

import lmdb

from dfs.engine.api import (
    Conflict,
    EngineDamaged,
    EngineLimits,
    Retry,
    Row,
    SnapshotLost,
    TooLarge,
    Unknown,
)
from dfs.engine.embedded import PAGE_ROWS_MAX, Batch, EmbeddedEngine
from dfs.engine.store_directory import FORMAT, StoreDirectory
from dfs.errors import NoSpace
from dfs.limits import GIB, MIB

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAP_BYTES_MIN = 1 * GIB
READERS_MAX = 256
ROOM_BYTES_MIN = 1 * MIB
"""A disk without this much room for a failed commit counts as full."""
_DAMAGED = (
    lmdb.CorruptedError,
    lmdb.InvalidError,
    lmdb.PageNotFoundError,
    lmdb.PanicError,
    lmdb.VersionMismatchError,
)
_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class LmdbEngine(EmbeddedEngine):
    """The store in a directory, made if it is not there (unless read only).

    Raises EngineBusy, EngineDamaged, FormatTooNew, NoSpace; OSError when the directory itself
    cannot be used.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        is_read_only: bool = False,
        limits: EngineLimits | None = None,
        map_bytes_min: int = MAP_BYTES_MIN,
    ) -> None:
        super().__init__(limits or EngineLimits())
        self._is_read_only = is_read_only
        self._write_lock = threading.Lock()
        self._gate = _Gate()
        self._map_version = 0
        self._directory = StoreDirectory(Path(path), is_read_only=is_read_only)
        try:
            with self._translated():
                self._environment = self._open(map_bytes_min)
        except BaseException:
            self._directory.close()
            raise

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        with self._reading() as transaction:
            return [cast("bytes | None", transaction.get(key)) for key in keys]

    def scan(self, start: bytes, end: bytes, limit: int, *, is_reverse: bool = False) -> list[Row]:
        assert limit > 0
        with self._reading() as transaction:
            rows = _descending(transaction, end) if is_reverse else _ascending(transaction, start)
            page = list(islice(rows, limit))
        # One row too many is cheaper than comparing inside the loop.
        if is_reverse:
            return [row for row in page if row[0] >= start]
        return [row for row in page if row[0] < end]

    def export(self, start: bytes, end: bytes) -> Iterator[list[Row]]:
        self._make_room_for_export()
        with self._gate.shared(), self._translated():
            assert not self._is_closed, "used after close"
            transaction = self._environment.begin()
            return self._pages(transaction, self._map_version, start, end)

    def close(self) -> None:
        with self._write_lock:
            if self._is_closed:
                return
            super().close()
            with self._gate.exclusive():
                self._environment.close()
            self._directory.close()

    # ------------------------------------------------------------ opening

    def _open(self, map_bytes_min: int) -> lmdb.Environment:
        directory = self._directory
        is_new = directory.read_format() != FORMAT
        if is_new and self._is_read_only:
            raise EngineDamaged(f"{directory.path}: the store here was never made to its end")
        if is_new:
            directory.begin_making()
            map_bytes = map_bytes_min
        else:
            map_bytes = max(map_bytes_min, directory.data_bytes())
        environment = lmdb.open(
            str(directory.path),
            map_size=_whole_pages(map_bytes),
            readonly=self._is_read_only,
            create=is_new,
            # Readers need no lock table where the directory's lock keeps writers out.
            lock=not self._is_read_only,
            max_readers=READERS_MAX,
            max_spare_txns=16,
            readahead=False,
        )
        try:
            self._check_whole(environment)
            if is_new:
                directory.end_making()
        except BaseException:
            environment.close()
            raise
        return environment

    def _check_whole(self, environment: lmdb.Environment) -> None:
        info = environment.info()
        page_bytes = environment.stat()["psize"]
        self._directory.check_not_truncated((info["last_pgno"] + 1) * page_bytes)
        if not self._is_read_only:
            self._lengthen_file(info["map_size"])

    def _lengthen_file(self, map_bytes: int) -> None:
        if self._directory.data_bytes() >= map_bytes:
            return
        try:
            os.truncate(self._directory.data_path, map_bytes)
        except OSError as error:
            if error.errno in _FULL_ERRNOS:
                raise _no_space(self._directory.data_path, error) from error
            raise

    # ------------------------------------------------------------ reading

    @contextmanager
    def _reading(self) -> Iterator[lmdb.Transaction]:
        with self._gate.shared(), self._translated():
            assert not self._is_closed, "used after close"
            with self._environment.begin() as transaction:
                yield transaction

    def _pages(
        self, transaction: lmdb.Transaction, map_version: int, start: bytes, end: bytes
    ) -> Iterator[list[Row]]:
        """Between pages nothing but the transaction is held, so a waiting reader stops nobody."""
        try:
            while True:
                with self._gate.shared(), self._translated():
                    assert not self._is_closed, "used after close"
                    if map_version != self._map_version:
                        raise SnapshotLost(f"{self._directory.path}: the store grew meanwhile")
                    rows = list(islice(_ascending(transaction, start), PAGE_ROWS_MAX))
                page = [row for row in rows if row[0] < end]
                if page:
                    yield page
                if len(page) < PAGE_ROWS_MAX:
                    return
                start = page[-1][0] + b"\0"
        finally:
            with self._gate.shared(), suppress(lmdb.Error):
                transaction.abort()

    def _make_room_for_export(self) -> None:
        """An export ends early when the map changes, so that is done now if it is near."""
        if self._is_read_only:
            return
        with self._write_lock:
            assert not self._is_closed, "used after close"
            info = self._environment.info()
            page_bytes = self._environment.stat()["psize"]
            if 2 * info["last_pgno"] * page_bytes > info["map_size"]:
                self._double_map()

    # ------------------------------------------------------------ writing

    def _commit(self, batch: Batch) -> None:
        assert not self._is_read_only
        with self._write_lock:
            assert not self._is_closed, "used after close"
            while not self._is_written(batch):
                self._double_map()

    def _is_written(self, batch: Batch) -> bool:
        """Whether the batch is durable; False when the map is too small and nothing happened."""
        try:
            with self._translated():
                transaction = self._environment.begin(write=True)
                try:
                    _check_and_write(transaction, batch)
                except BaseException:
                    transaction.abort()
                    raise
            transaction.commit()
        except lmdb.MapFullError:
            return False
        except lmdb.Error as error:
            self._raise_failed_commit(error, batch)
        return True

    def _raise_failed_commit(self, error: lmdb.Error, batch: Batch) -> NoReturn:
        """LMDB writes data pages, syncs, then writes the meta page, which is what makes a batch
        happen. Only if that last write failed is the outcome unknown; LMDB then refuses to go on.
        """
        if self._has_panicked():
            raise Unknown(f"{self._directory.data_path}: {error}") from error
        self._check_room(batch, error)
        with self._translated():
            raise error

    def _has_panicked(self) -> bool:
        try:
            self._environment.begin(write=True).abort()
        except lmdb.Error:
            return True
        return False

    def _check_room(self, batch: Batch, error: lmdb.Error) -> None:
        """Raises NoSpace if there is none left. LMDB says EIO when a write was only cut short."""
        info = self._environment.info()
        start = (info["last_pgno"] + 1) * self._environment.stat()["psize"]
        needed_bytes = ROOM_BYTES_MIN + 4 * sum(map(len, batch.puts.values()))
        with self._directory.data_path.open("r+b") as file:
            try:
                os.posix_fallocate(file.fileno(), start, needed_bytes)
            except OSError as full:
                if full.errno in _FULL_ERRNOS:
                    raise _no_space(self._directory.data_path, full) from error
        # The map may end within what was tried; the file has to be as long as the map, no longer.
        os.truncate(self._directory.data_path, info["map_size"])

    def _double_map(self) -> None:
        """Called with the write lock. The file grows first: a map past its end cannot be read."""
        map_bytes = 2 * self._environment.info()["map_size"]
        with self._gate.exclusive(), self._translated():
            self._lengthen_file(map_bytes)
            self._environment.set_mapsize(map_bytes)
            self._map_version += 1
        assert self._environment.info()["map_size"] == map_bytes

    # ------------------------------------------------------------ errors

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """LMDB's errors as the seam's. MapFullError passes through."""
        where = self._directory.data_path
        try:
            yield
        except lmdb.MapFullError:
            raise
        except lmdb.TxnFullError as error:
            raise TooLarge(f"{where}: the batch touches too many pages ({error})") from error
        except (lmdb.ReadersFullError, lmdb.MemoryError) as error:
            raise Retry(f"{where}: {error}") from error
        except _DAMAGED as error:
            raise EngineDamaged(f"{where}: damaged ({error}); restore it from a backup") from error
        except lmdb.Error as error:
            if isinstance(error, lmdb.DiskError) or os.strerror(errno.EDQUOT) in str(error):
                raise NoSpace(f"{where}: {error}") from error
            raise EngineDamaged(f"{where}: cannot be used ({error}); check the disk") from error


def _check_and_write(transaction: lmdb.Transaction, batch: Batch) -> None:
    for key, expected in batch.checks.items():
        if transaction.get(key) != expected:
            raise Conflict(f"key {key.hex()} changed")
    for start, end in batch.clears:
        _clear(transaction, start, end)
    for key in sorted(batch.deletes):
        transaction.delete(key)
    # In key order neighbours meet the same page while it is at hand.
    for key, value in sorted(batch.puts.items()):
        is_put = transaction.put(key, value)
        assert is_put


def _clear(transaction: lmdb.Transaction, start: bytes, end: bytes) -> None:
    with transaction.cursor() as cursor:
        is_found = cursor.set_range(start)
        # A deleted row's cursor stands on the next one; its key is empty behind the last.
        while is_found and cast("bytes", cursor.key()) < end:
            is_found = cursor.delete() and bool(cursor.key())


def _ascending(transaction: lmdb.Transaction, start: bytes) -> Iterator[Row]:
    """Rows from `start` on."""
    with transaction.cursor() as cursor:
        if cursor.set_range(start):
            yield from cast("Iterator[Row]", cursor.iternext())


def _descending(transaction: lmdb.Transaction, end: bytes) -> Iterator[Row]:
    """Rows below `end`, the last one first."""
    with transaction.cursor() as cursor:
        is_found = cursor.prev() if cursor.set_range(end) else cursor.last()
        if is_found:
            yield from cast("Iterator[Row]", cursor.iterprev())


def _no_space(path: Path, error: OSError) -> NoSpace:
    return NoSpace(f"{path}: {error.strerror}")


def _whole_pages(length: int) -> int:
    page_bytes = os.sysconf("SC_PAGESIZE")
    return -(-length // page_bytes) * page_bytes


class _Gate:
    """Many may be inside together, or one alone; who waits to be alone goes first."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside_count = 0
        self._is_alone_wanted = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._is_alone_wanted)
            self._inside_count += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside_count -= 1
                assert self._inside_count >= 0
                if not self._inside_count:
                    self._changed.notify_all()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        with self._changed:
            assert not self._is_alone_wanted, "the write lock keeps a second one out"
            self._is_alone_wanted = True
            self._changed.wait_for(lambda: not self._inside_count)
        try:
            yield
        finally:
            with self._changed:
                self._is_alone_wanted = False
                self._changed.notify_all()
