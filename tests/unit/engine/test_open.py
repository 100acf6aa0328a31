"""Engines by URL, and the one line that a wrong URL gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dfs.engine.lmdb_engine import LmdbEngine
from dfs.engine.memory_engine import MemoryEngine
from dfs.engine.open import open_engine
from dfs.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_url_opens_its_engine(tmp_path: Path) -> None:
    memory = open_engine("memory:")
    assert isinstance(memory, MemoryEngine)
    with_directory = open_engine(f"lmdb:{tmp_path}/a/b")
    assert isinstance(with_directory, LmdbEngine)
    with_directory.commit({}, {b"a": b"1"})
    with_directory.close()
    again = open_engine(f"lmdb:{tmp_path}/a/b", is_read_only=True)
    assert again.get([b"a"]) == [b"1"]
    again.close()


@pytest.mark.parametrize("url", ["", "lmdb", "lmdb:", "memory", "memory:x", "sqlite:/tmp/x", ":x"])
def test_a_wrong_url_is_wrong_usage(url: str) -> None:
    with pytest.raises(UserError) as caught:
        open_engine(url)
    assert caught.value.exit_status == 2
    assert repr(url) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_directory_that_cannot_be_used_fails_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a directory")
    for url in (f"lmdb:{file}", f"lmdb:{file}/below"):
        with pytest.raises(UserError) as caught:
            open_engine(url)
        assert caught.value.exit_status == 1
        assert str(file) in str(caught.value)
        assert "\n" not in str(caught.value)
