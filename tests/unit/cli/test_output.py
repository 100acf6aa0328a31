"""Goal: people read units and tables, programs read JSON, and pipes see no progress."""

from __future__ import annotations

import json

import pytest

from dfs.cli.output import (
    print_json,
    print_table,
    progress_bar,
    progress_line,
    size_text,
    span_text,
)
from dfs.types import SpaceUsage


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (1 << 30, "1.0 GiB"),
        (1 << 60, "1024.0 PiB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert size_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.9, "0 s"), (61, "1 min 1 s"), (7260, "2 h 1 min"), (90_000, "1 d 1 h")],
)
def test_spans(seconds: float, text: str) -> None:
    assert span_text(seconds) == text


def test_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"space": SpaceUsage(1, 2, 3), "names": ("a", "ü")})
    document = json.loads(capsys.readouterr().out)
    assert document["space"]["used_bytes"] == 2
    assert document["names"] == ["a", "ü"]


def test_tables_keep_every_column_and_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 70
    print_table(["name", ">size"], [["[red]a", "1"], [long, "22"]], title="things")
    said = capsys.readouterr().out
    assert "[red]a" in said
    assert long in said
    assert ">size" not in said


def test_progress_is_not_for_pipes(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_line("working") as say, progress_bar("checking") as move:
        say("more")
        move("records", 1, 0)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
