"""Goal: people read units and tables, programs read JSON, and pipes see no progress."""

from __future__ import annotations

import json
import sys

import pytest

from dfs.cli.output import (
    live_output,
    print_json,
    print_json_line,
    print_table,
    progress_bar,
    progress_line,
    size_text,
    span_text,
    table_of,
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


def test_a_row_of_documents_has_one_in_each_line(
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    for number in range(3):
        print_json_line(b'{"number":%d}' % number)
    lines = capsysbinary.readouterr().out.splitlines()
    assert [json.loads(line)["number"] for line in lines] == [0, 1, 2]


def test_pipes_see_everything_that_was_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with live_output() as show:
        for number in range(3):
            show(table_of(["name", ">size"], [[f"row{number}", "x" * 90]]))
    said = capsys.readouterr().out
    assert [said.count(f"row{number}") for number in range(3)] == [1, 1, 1]
    assert "\x1b" not in said


def test_a_terminal_sees_the_newest_in_one_place(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    with live_output() as show:
        for number in range(2):
            show(table_of(["name"], [[f"row{number}"]]))
    said = capsys.readouterr().out
    assert said.index("row0") < said.index("\x1b[1A") < said.index("row1")


def test_progress_is_not_for_pipes(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_line("working") as say, progress_bar("checking") as move:
        say("more")
        move("records", 1, 0)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
