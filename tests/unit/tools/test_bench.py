"""Goal: the benchmark measures what it says and notices wrong bytes. Method: quick runs on a local
directory."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from tools.bench import measure as measuring
from tools.bench import workloads
from tools.bench.__main__ import main
from tools.bench.content import random_bytes, small_tree, text_bytes
from tools.bench.measure import measure, summary
from tools.bench.report import notes, table
from tools.bench.shared import Figure
from tools.bench.targets import Target
from tools.bench.workloads import WORKLOADS, ContentError, Scale

if TYPE_CHECKING:
    from collections.abc import Iterator
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
    target = Target("local", (tmp_path,))
    results = measure([target], ["sqlite"], 3, Scale.quick(), say=lambda _: None)
    (row,) = summary(results, [target])
    assert len(results.samples["local", "sqlite commits"]) == 3
    assert row["unit"] == "ops/s"


def test_wrong_bytes_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workloads, "_stream_equals", lambda path, pieces: False)
    with pytest.raises(ContentError):
        list(WORKLOADS["streams"](tmp_path, Scale.quick()))


def fails_half_way(directory: Path, scale: Scale) -> Iterator[Figure]:
    """A workload that gives one row and then fails where the target is called `bad`."""
    yield Figure("before", "ms", 2.0)
    if directory.parent.name == "bad":
        raise OSError(5, "Input/output error")
    yield Figure("after", "ms", 4.0)


@pytest.fixture
def good_and_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Target]:
    monkeypatch.setitem(WORKLOADS, "git", fails_half_way)
    for name in ("good", "bad"):
        (tmp_path / name).mkdir()
    return [Target(name, (tmp_path / name,), is_rival=True) for name in ("good", "bad")]


def test_what_fails_in_one_target_does_not_end_the_run(good_and_bad: list[Target]) -> None:
    results = measure(good_and_bad, ["git", "sqlite"], 2, Scale.quick(), say=lambda _: None)
    medians = {row["row"]: row["median"] for row in summary(results, good_and_bad)}
    assert medians["before"] == {"good": 2.0, "bad": 2.0}
    assert medians["after"] == {"good": 4.0, "bad": None}
    assert medians["sqlite commits"]["bad"] > 0
    assert notes(results, good_and_bad, ["git"]) == [
        "bad: git failed: [Errno 5] Input/output error"
    ]
    assert [list(target.mountpoints[0].iterdir()) for target in good_and_bad] == [[], []]


def test_the_table_says_what_failed_and_where_less_is_better(good_and_bad: list[Target]) -> None:
    results = measure(good_and_bad, ["git"], 1, Scale.quick(), say=lambda _: None)
    made = table(results, good_and_bad)
    cells = [list(column.cells) for column in made.columns]
    assert cells == [["before", "after"], ["ms ↓"] * 2, ["2", "4"], ["2", "failed"], ["1.000", "–"]]
    assert made.caption == "↓ less is better, in the ratio too"


def test_a_failure_of_a_rival_is_a_result_and_one_of_ours_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(WORKLOADS, "git", fails_half_way)
    (tmp_path / "bad").mkdir()
    arguments = [str(tmp_path / "bad"), "--only", "git", "--only", "shared", "--rounds", "1"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert "git failed: [Errno 5] Input/output error" in result.output
    assert "shared skipped, it needs two mounts" in result.output


def test_what_hangs_in_a_mount_made_for_the_run_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aborted: list[Path] = []
    gave_up = threading.Event()

    def abort(mountpoint: Path) -> None:
        aborted.append(mountpoint)
        if len(aborted) == 2:
            gave_up.set()

    def hangs(_directory: Path, _scale: Scale) -> Iterator[Figure]:
        gave_up.wait()
        raise OSError(103, "Software caused connection abort")
        yield

    monkeypatch.setattr(measuring, "WORKLOAD_PATIENCE_S", 0.0)
    monkeypatch.setattr(measuring, "abort", abort)
    monkeypatch.setitem(WORKLOADS, "git", hangs)
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    target = Target("hanging", (first, second), is_rival=True)
    results = measure([target], ["git"], 1, Scale.quick(), say=lambda _: None)
    assert aborted == [first, second]
    assert [failure.workload for failure in results.failures] == ["git"]
