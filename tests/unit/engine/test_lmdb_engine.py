"""What the LMDB engine has beyond the contract: a map that grows, and every kind of damage."""

from __future__ import annotations

import os
import shutil
import threading
from typing import TYPE_CHECKING

import lmdb
import pytest

from dfs.engine.api import EngineBusy, EngineDamaged, Retry, SnapshotLost, TooLarge, Unknown
from dfs.engine.lmdb_engine import LmdbEngine
from dfs.errors import FormatTooNew, NoSpace
from dfs.limits import MIB

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

END = b"\xff"


def small(path: Path) -> LmdbEngine:
    """With a map that is soon full."""
    return LmdbEngine(path, map_bytes_min=256 * 1024)


def fill(engine: LmdbEngine, count: int, value: bytes = b"v" * 500) -> dict[bytes, bytes]:
    rows = {b"%06d" % number: value for number in range(count)}
    engine.commit({}, rows)
    return rows


def count_rows(engine: LmdbEngine) -> int:
    return sum(len(page) for page in engine.export(b"\0", END))


# ---------------------------------------------------------------- lasting


def test_what_was_committed_is_there_after_reopening(tmp_path: Path) -> None:
    engine = LmdbEngine(tmp_path)
    rows = fill(engine, 3000)
    engine.close()
    for is_read_only in (True, False):
        again = LmdbEngine(tmp_path, is_read_only=is_read_only)
        assert again.scan(b"\0", END, 5000) == sorted(rows.items())
        again.close()


def test_the_file_is_sparse_and_as_long_as_the_map(tmp_path: Path) -> None:
    engine = LmdbEngine(tmp_path)
    fill(engine, 10)
    status = (tmp_path / "data.mdb").stat()
    assert status.st_size == 1 << 30
    assert status.st_blocks * 512 < MIB
    engine.close()


# ---------------------------------------------------------------- growth


def test_the_map_grows_without_losing_a_commit(tmp_path: Path) -> None:
    engine = small(tmp_path)
    for number in range(200):
        previous = b"%d" % (number - 1) if number else None
        rows = {b"%04d %04d" % (number, row): b"v" * 500 for row in range(50)}
        engine.commit({b"last": previous}, rows | {b"last": b"%d" % number})
    assert (tmp_path / "data.mdb").stat().st_size >= 8 * MIB
    assert count_rows(engine) == 200 * 50 + 1
    engine.close()
    again = small(tmp_path)
    assert count_rows(again) == 200 * 50 + 1
    fill(again, 10)
    again.close()


def test_one_batch_larger_than_the_map_fits(tmp_path: Path) -> None:
    engine = small(tmp_path)
    rows = {b"%03d" % number: bytes([number]) * 100_000 for number in range(100)}
    engine.commit({}, rows)
    assert engine.scan(b"\0", END, 200) == sorted(rows.items())
    engine.close()


def test_the_map_grows_under_readers(tmp_path: Path) -> None:
    engine = small(tmp_path)
    rows = fill(engine, 100)
    is_done = threading.Event()
    errors: list[BaseException] = []

    def read() -> None:
        try:
            while not is_done.is_set():
                assert engine.scan(b"0", b"000100", 200) == sorted(rows.items())
                assert engine.get([b"000050"]) == [b"v" * 500]
                assert list(engine.export(b"0", b"000100"))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(60):
        engine.commit({}, {b"x%03d %03d" % (number, row): b"v" * 4000 for row in range(40)})
    is_done.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    # A reader's export may meet a change of the map, and is then told so.
    assert all(isinstance(error, SnapshotLost) for error in errors)
    assert count_rows(engine) == 100 + 60 * 40
    engine.close()


def test_an_export_says_when_its_moment_is_lost(tmp_path: Path) -> None:
    engine = small(tmp_path)
    fill(engine, 2500, b"")
    export = engine.export(b"\0", END)
    assert len(next(export)) == 1000
    engine.commit({}, {b"x%06d" % number: b"v" * 1000 for number in range(2000)})
    with pytest.raises(SnapshotLost, match=f"^{tmp_path}: the store grew meanwhile$"):
        next(export)
    assert next(export, None) is None
    assert count_rows(engine) == 4500
    engine.close()


def test_an_export_makes_room_before_it_starts(tmp_path: Path) -> None:
    engine = small(tmp_path)
    data = tmp_path / "data.mdb"
    number = 0
    while engine._environment.info()["last_pgno"] * 4096 <= data.stat().st_size * 3 // 4:
        engine.commit({}, {b"%06d" % row: b"v" * 10 for row in range(number, number + 50)})
        number += 50
    size = data.stat().st_size
    export = engine.export(b"\0", END)
    seen = next(export)
    assert data.stat().st_size == 2 * size
    # As much again as there was fits before the moment is lost.
    engine.commit({}, {b"x%06d" % row: b"v" * 10 for row in range(number // 2)})
    assert len(seen) + sum(len(page) for page in export) == number
    engine.close()


def test_an_export_left_open_does_not_keep_the_engine_from_closing(tmp_path: Path) -> None:
    engine = LmdbEngine(tmp_path)
    fill(engine, 2500, b"")
    export = engine.export(b"\0", END)
    unstarted = engine.export(b"\0", END)
    next(export)
    engine.close()
    export.close()  # type: ignore[attr-defined]
    unstarted.close()  # type: ignore[attr-defined]
    LmdbEngine(tmp_path).close()


# ---------------------------------------------------------------- who may open it


def test_a_store_is_opened_once(tmp_path: Path) -> None:
    engine = LmdbEngine(tmp_path)
    for is_read_only in (False, True):
        with pytest.raises(EngineBusy, match=f"in use by process {os.getpid()};"):
            LmdbEngine(tmp_path, is_read_only=is_read_only)
    engine.close()
    LmdbEngine(tmp_path).close()


def test_a_failed_opening_lets_go_of_the_directory(tmp_path: Path) -> None:
    small(tmp_path).close()
    data = tmp_path / "data.mdb"
    whole = data.read_bytes()
    data.write_bytes(b"garbage" * 10_000)
    with pytest.raises(EngineDamaged):
        LmdbEngine(tmp_path)
    data.write_bytes(whole)
    LmdbEngine(tmp_path).close()


def test_a_read_only_engine_changes_no_file(tmp_path: Path) -> None:
    engine = LmdbEngine(tmp_path)
    fill(engine, 10)
    engine.close()
    before = {
        file.name: file.read_bytes() for file in tmp_path.iterdir() if file.name != "data.mdb"
    }
    modified_ns = (tmp_path / "data.mdb").stat().st_mtime_ns
    reader = LmdbEngine(tmp_path, is_read_only=True)
    assert count_rows(reader) == 10
    reader.close()
    after = {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.name != "data.mdb"}
    assert after == before
    assert (tmp_path / "data.mdb").stat().st_mtime_ns == modified_ns
    with pytest.raises(EngineDamaged, match="no dfs store here"):
        LmdbEngine(tmp_path / "absent", is_read_only=True)
    assert not (tmp_path / "absent").exists()


# ---------------------------------------------------------------- damage


def _cut_tail(data: Path) -> None:
    os.truncate(data, 100_000)


def _leave_ten_bytes(data: Path) -> None:
    os.truncate(data, 10)


def _overwrite(data: Path) -> None:
    data.write_bytes(bytes(range(256)) * 1000)


def _overwrite_second_meta_page(data: Path) -> None:
    with data.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * 4096)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_cut_tail, "truncated, it has 100000 bytes"),
        (_leave_ten_bytes, "not an LMDB file"),
        (lambda data: os.truncate(data, 0), "missing or empty"),
        (lambda data: data.unlink(), "missing or empty"),
        (_overwrite, "not an LMDB file"),
        (_overwrite_second_meta_page, "not an LMDB file"),
    ],
    ids=["truncated", "ten bytes", "empty", "gone", "garbage", "one meta page"],
)
@pytest.mark.parametrize("is_read_only", [False, True])
def test_a_damaged_file_is_named_and_left_alone(
    tmp_path: Path, damage: Callable[[Path], None], message: str, is_read_only: bool
) -> None:
    engine = small(tmp_path)
    fill(engine, 1000)
    engine.close()
    data = tmp_path / "data.mdb"
    damage(data)
    before = data.read_bytes() if data.exists() else None
    with pytest.raises(EngineDamaged, match=message) as caught:
        LmdbEngine(tmp_path, is_read_only=is_read_only)
    text = str(caught.value)
    assert str(data) in text
    assert "restore it from a backup" in text
    assert "\n" not in text
    assert (data.read_bytes() if data.exists() else None) == before


def test_a_wiped_page_is_told_when_it_is_read(tmp_path: Path) -> None:
    engine = small(tmp_path)
    fill(engine, 1000)
    engine.close()
    with (tmp_path / "data.mdb").open("r+b") as file:
        file.seek(8192)
        file.write(bytes(200 * 4096))
    engine = small(tmp_path)
    with pytest.raises(EngineDamaged, match="restore it from a backup"):
        engine.get([b"000500"])
    with pytest.raises(EngineDamaged, match="restore it from a backup"):
        engine.commit({}, {b"000500": b"1"})
    engine.close()


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    LmdbEngine(tmp_path).close()
    (tmp_path / "format").write_text("dfs engine lmdb format 7\n")
    for is_read_only in (False, True):
        with pytest.raises(FormatTooNew, match="has format 7"):
            LmdbEngine(tmp_path, is_read_only=is_read_only)


def test_a_making_that_did_not_end_starts_again(tmp_path: Path) -> None:
    (tmp_path / "format").write_text("dfs engine lmdb format 0\n")
    (tmp_path / "data.mdb").write_bytes(b"half a meta page")
    (tmp_path / "owner.lock").touch()
    with pytest.raises(EngineDamaged, match="never made to its end"):
        LmdbEngine(tmp_path, is_read_only=True)
    engine = LmdbEngine(tmp_path)
    assert fill(engine, 3)
    engine.close()
    assert (tmp_path / "format").read_text() == "dfs engine lmdb format 1\n"


def test_a_foreign_lmdb_store_is_not_taken_over(tmp_path: Path) -> None:
    lmdb.open(str(tmp_path)).close()
    with pytest.raises(EngineDamaged, match="not a store of dfs"):
        LmdbEngine(tmp_path)


def test_a_garbage_lock_table_does_not_matter(tmp_path: Path) -> None:
    engine = LmdbEngine(tmp_path)
    fill(engine, 5)
    engine.close()
    (tmp_path / "lock.mdb").write_bytes(b"garbage" * 1000)
    again = LmdbEngine(tmp_path)
    assert count_rows(again) == 5
    again.close()


def test_a_copy_of_the_directory_is_a_backup(tmp_path: Path) -> None:
    engine = small(tmp_path / "store")
    rows = fill(engine, 300)
    engine.close()
    shutil.copytree(tmp_path / "store", tmp_path / "backup")
    restored = LmdbEngine(tmp_path / "backup")
    assert restored.scan(b"\0", END, 500) == sorted(rows.items())
    restored.close()


# ---------------------------------------------------------------- LMDB's errors


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (lmdb.DiskError("No space left on device"), NoSpace),
        (lmdb.Error("mdb_txn_commit: Disk quota exceeded"), NoSpace),
        (lmdb.Error("mdb_put: Input/output error"), EngineDamaged),
        (lmdb.PanicError("MDB_PANIC"), EngineDamaged),
        (lmdb.CorruptedError("MDB_CORRUPTED"), EngineDamaged),
        (lmdb.TxnFullError("MDB_TXN_FULL"), TooLarge),
        (lmdb.ReadersFullError("MDB_READERS_FULL"), Retry),
        (lmdb.MemoryError("Cannot allocate memory"), Retry),
        (lmdb.MapFullError("MDB_MAP_FULL"), lmdb.MapFullError),
        (ValueError("ours"), ValueError),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else str(value),
)
def test_each_error_says_what_the_caller_may_do(
    tmp_path: Path, error: Exception, expected: type[Exception]
) -> None:
    engine = LmdbEngine(tmp_path)
    with pytest.raises(expected), engine._translated():
        raise error
    engine.close()


class _FailingTransaction:
    """A write transaction whose commit fails before LMDB was asked."""

    def __init__(self, transaction: lmdb.Transaction, error: lmdb.Error) -> None:
        self._transaction = transaction
        self._error = error

    def __getattr__(self, name: str) -> object:
        return getattr(self._transaction, name)

    def commit(self) -> None:
        self._transaction.abort()
        raise self._error


class _FailingEnvironment:
    """An LMDB environment whose next commit fails, and which may refuse everything afterwards."""

    def __init__(
        self, environment: lmdb.Environment, error: lmdb.Error, *, is_panicking: bool
    ) -> None:
        self._environment = environment
        self._error: lmdb.Error | None = error
        self._is_panicking = is_panicking

    def __getattr__(self, name: str) -> object:
        return getattr(self._environment, name)

    def begin(self, *, write: bool = False) -> object:
        if not write:
            return self._environment.begin()
        if self._error is None and self._is_panicking:
            raise lmdb.PanicError("MDB_PANIC: Update of meta page failed")
        transaction = self._environment.begin(write=True)
        error, self._error = self._error, None
        return transaction if error is None else _FailingTransaction(transaction, error)


@pytest.mark.parametrize(
    ("error", "is_panicking", "expected"),
    [
        # The last write failed: it may have reached the disk.
        (lmdb.Error("mdb_txn_commit: Input/output error"), True, Unknown),
        (lmdb.DiskError("mdb_txn_commit: No space left on device"), True, Unknown),
        # Something before it failed: nothing happened.
        (lmdb.Error("mdb_txn_commit: Input/output error"), False, EngineDamaged),
        (lmdb.DiskError("mdb_txn_commit: No space left on device"), False, NoSpace),
        (lmdb.TxnFullError("mdb_txn_commit: MDB_TXN_FULL"), False, TooLarge),
    ],
)
def test_a_failed_commit_says_whether_it_may_have_happened(
    tmp_path: Path, error: lmdb.Error, is_panicking: bool, expected: type[Exception]
) -> None:
    engine = LmdbEngine(tmp_path)
    engine.commit({}, {b"a": b"1"})
    environment = engine._environment
    engine._environment = _FailingEnvironment(  # type: ignore[assignment]
        environment, error, is_panicking=is_panicking
    )
    with pytest.raises(expected, match=f"^{tmp_path}/data.mdb: "):
        engine.commit({b"a": b"1"}, {b"a": b"2"})
    if is_panicking:
        with pytest.raises(EngineDamaged):
            engine.commit({}, {b"b": b"2"})
    else:
        engine.commit({b"a": b"1"}, {b"a": b"3"})
        assert engine.get([b"a"]) == [b"3"]
    assert (tmp_path / "data.mdb").stat().st_size == environment.info()["map_size"]
    engine.close()
