"""Goal: wrong words about a new volume are refused before anything is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dfs.cli.main import run
from dfs.cli.meta import _checked_block_bytes
from dfs.errors import UserError
from dfs.limits import BLOCK_BYTES_DEFAULT

if TYPE_CHECKING:
    from pathlib import Path


def test_block_sizes() -> None:
    assert _checked_block_bytes(None) == BLOCK_BYTES_DEFAULT
    assert _checked_block_bytes("64K") == 65536
    assert _checked_block_bytes("8MiB") == 8 << 20
    for text in ("32K", "16M", "3M", "much"):
        with pytest.raises(UserError, match=text) as caught:
            _checked_block_bytes(text)
        assert caught.value.exit_status == 2


@pytest.mark.parametrize(
    "words",
    [
        ["--copies", "1", "--min-copies", "2"],
        ["--listen", "nowhere"],
        ["--block-size", "1"],
        ["--copies", "99"],
    ],
)
def test_nothing_is_made_for_wrong_words(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["meta", "--engine", f"lmdb:{tmp_path}/m", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
