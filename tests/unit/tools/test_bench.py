"""Goal: the benchmark measures what it says and notices wrong bytes. Method: quick runs on a local
directory."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from tools.bench import workloads
from tools.bench.__main__ import main, measure, summary
from tools.bench.content import random_bytes, small_tree, text_bytes
from tools.bench.workloads import WORKLOADS, ContentError, Scale

if TYPE_CHECKING:
    from pathlib import Path


def test_content_is_a_function_of_its_seed() -> None:
    assert small_tree(30) == small_tree(30)
    assert len(random_bytes(1, 777)) == len(text_bytes(1, 777)) == 777
    assert random_bytes(1, 64) != random_bytes(2, 64)


def test_every_workload_gives_rows_and_leaves_nothing(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    second.mkdir()
    result = CliRunner().invoke(
        main,
        [
            str(first),
            "--against",
            str(second),
            "--quick",
            "--rounds",
            "1",
            "--json",
            str(tmp_path / "j"),
        ],
    )
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "j").read_text())["rows"]
    assert {"extract tree", "rename", "write text", "sqlite commits"} <= {
        row["row"] for row in rows
    }
    assert all(rate > 0 for row in rows for rate in row["median"].values())
    assert list(first.iterdir()) == list(second.iterdir()) == []


def test_median_is_over_the_rounds(tmp_path: Path) -> None:
    samples = measure([tmp_path], ["sqlite"], 3, Scale.quick())
    (row,) = summary(samples)
    assert len(samples[tmp_path]["sqlite commits"]) == 3
    assert row["unit"] == "ops/s"


def test_wrong_bytes_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workloads, "_stream_equals", lambda path, pieces: False)
    with pytest.raises(ContentError):
        list(WORKLOADS["streams"](tmp_path, Scale.quick()))
