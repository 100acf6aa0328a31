"""Goal: sizes that people write are understood or refused."""

from __future__ import annotations

import pytest

from dfs.cli.chunk import parse_size
from dfs.errors import UserError


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("500G", 500 << 30), ("1.5TiB", 3 << 39), (" 64 kb ", 65536), ("2m", 2 << 20)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "-1", "G", "5X", "1e9", "0.1"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UserError, match="not a size") as caught:
        parse_size(text)
    assert caught.value.exit_status == 2
