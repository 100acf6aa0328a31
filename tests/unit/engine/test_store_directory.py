"""A store's directory: its lock, its format line, and what is found missing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from dfs.engine.api import EngineBusy, EngineDamaged
from dfs.engine.store_directory import FORMAT, FORMAT_BEING_MADE, StoreDirectory
from dfs.errors import FormatTooNew

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[StoreDirectory]:
    directory = StoreDirectory(tmp_path / "store", is_read_only=False)
    yield directory
    directory.close()


def test_making_a_store_leaves_it_whole_at_the_end_only(directory: StoreDirectory) -> None:
    assert directory.read_format() is None
    directory.begin_making()
    assert directory.read_format() == FORMAT_BEING_MADE
    directory.data_path.write_bytes(b"data")
    directory.end_making()
    assert directory.read_format() == FORMAT == 1
    assert (directory.path / "format").read_bytes() == b"dfs engine lmdb format 1\n"
    assert directory.data_bytes() == 4


def test_a_making_that_did_not_end_is_thrown_away(directory: StoreDirectory) -> None:
    directory.begin_making()
    directory.data_path.write_bytes(b"half")
    directory.begin_making()
    assert not directory.data_path.exists()
    assert directory.read_format() == FORMAT_BEING_MADE


def test_data_without_a_format_is_never_overwritten(directory: StoreDirectory) -> None:
    directory.data_path.write_bytes(b"somebody's")
    with pytest.raises(EngineDamaged, match="not a store"):
        directory.begin_making()
    assert directory.data_path.read_bytes() == b"somebody's"
    assert directory.read_format() is None


@pytest.mark.parametrize(
    "text",
    [b"", b"\n", b"1\n", b"dfs engine lmdb format \n", b"dfs engine lmdb format -1\n", b"\xff"],
)
def test_a_damaged_format_line_is_named(directory: StoreDirectory, text: bytes) -> None:
    (directory.path / "format").write_bytes(text)
    with pytest.raises(EngineDamaged, match=r"store/format: damaged"):
        directory.read_format()


def test_a_newer_format_is_refused(directory: StoreDirectory) -> None:
    (directory.path / "format").write_text("dfs engine lmdb format 2\n")
    with pytest.raises(FormatTooNew, match="has format 2, made by a newer dfs"):
        directory.read_format()


@pytest.mark.parametrize("content", [None, b""])
def test_missing_data_is_named(directory: StoreDirectory, content: bytes | None) -> None:
    if content is not None:
        directory.data_path.write_bytes(content)
    with pytest.raises(EngineDamaged, match=r"data\.mdb: missing or empty"):
        directory.data_bytes()


def test_a_short_file_is_truncated(directory: StoreDirectory) -> None:
    directory.data_path.write_bytes(bytes(100))
    directory.check_not_truncated(100)
    with pytest.raises(EngineDamaged, match="truncated, it has 100 bytes of at least 101"):
        directory.check_not_truncated(101)


def test_one_writer_keeps_everybody_out(directory: StoreDirectory) -> None:
    (directory.path / "format").write_text("dfs engine lmdb format 1\n")
    for is_read_only in (False, True):
        with pytest.raises(EngineBusy, match=f"in use by process {os.getpid()};"):
            StoreDirectory(directory.path, is_read_only=is_read_only)


def test_readers_share_and_keep_writers_out(tmp_path: Path) -> None:
    StoreDirectory(tmp_path, is_read_only=False).close()
    (tmp_path / "format").write_text("dfs engine lmdb format 1\n")
    readers = [StoreDirectory(tmp_path, is_read_only=True) for _ in range(2)]
    with pytest.raises(EngineBusy, match="in use by"):
        StoreDirectory(tmp_path, is_read_only=False)
    for reader in readers:
        reader.close()
    StoreDirectory(tmp_path, is_read_only=False).close()


def test_there_is_nothing_to_read_in_an_empty_directory(tmp_path: Path) -> None:
    with pytest.raises(EngineDamaged, match="no dfs store here"):
        StoreDirectory(tmp_path, is_read_only=True)
    assert list(tmp_path.iterdir()) == []
