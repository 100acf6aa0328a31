"""Goal: the program is quick to ask for help, and every failure is one line and a status."""

from __future__ import annotations

import subprocess
import sys
import time

import click
import pytest

from dfs.background import dfs_command, dfs_environment
from dfs.cli import main as main_module
from dfs.cli.main import COMMANDS, HIDDEN, error_line, expected_error, program, run
from dfs.errors import Disconnected, UserError

HELP_SECONDS_MAX = 0.3


def fails_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(program, "main", fail)


def test_every_command_exists_and_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    listed = capsys.readouterr().out
    context = click.Context(program)
    for name in [*COMMANDS, *HIDDEN]:
        command = program.get_command(context, name)
        assert command is not None
        assert command.help
        assert command.hidden == (name in HIDDEN)
        assert (f"  {name}" in listed) == (name in COMMANDS)
        assert run([name, "--help"]) == 0
        assert capsys.readouterr().out.startswith(f"Usage: dfs {name}")


def test_help_imports_nothing_heavy() -> None:
    started_s = time.perf_counter()
    heavy = "import sys; from dfs.cli.main import run; run(['--help']); " + (
        "assert not {'trio', 'pyfuse3', 'lmdb', 'rich', 'msgspec'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", heavy], env=dfs_environment(), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert time.perf_counter() - started_s < 10 * HELP_SECONDS_MAX


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["mount"], ["up", "--copies", "0"], ["up", "--copies", "x"], ["--nonsense"]],
)
def test_wrong_usage_is_one_line_and_status_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("dfs: ")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (UserError("no such thing", exit_status=2), 2, "no such thing"),
        (UserError("failed\nin two lines"), 1, "failed in two lines"),
        (Disconnected("cannot reach h:1"), 1, "cannot reach h:1"),
        (FileNotFoundError(2, "No such file or directory", "/x"), 1, "/x: No such file"),
        (OSError("odd"), 1, "odd"),
        (ExceptionGroup("g", [ExceptionGroup("h", [Disconnected("deep")])]), 1, "deep"),
        (click.FileError("f", "unreadable"), 2, "unreadable"),
    ],
)
def test_expected_failures_are_one_line(
    error: Exception,
    status: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fails_with(monkeypatch, error)
    assert run([]) == status
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.err.count("\n") == 1


def test_bugs_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    fails_with(monkeypatch, ExceptionGroup("g", [OSError(), AssertionError("bug")]))
    with pytest.raises(ExceptionGroup):
        run([])
    assert expected_error(ValueError()) is None


@pytest.mark.parametrize(
    "error",
    [KeyboardInterrupt(), click.Abort(), BaseExceptionGroup("tasks", [KeyboardInterrupt()])],
)
def test_interruption_is_quiet(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fails_with(monkeypatch, error)
    assert run([]) == main_module.INTERRUPTED_STATUS
    assert capsys.readouterr().err == ""


def test_a_reader_that_leaves_is_no_traceback() -> None:
    command = f"{' '.join(dfs_command('--help'))} | true"
    done = subprocess.run(
        ["bash", "-c", command], env=dfs_environment(), capture_output=True, check=False
    )
    assert b"Traceback" not in done.stderr
    assert error_line(UserError("")) == "UserError"


def test_it_refuses_to_run_without_assertions() -> None:
    done = subprocess.run(
        [sys.executable, "-O", "-m", "dfs", "--help"],
        env=dfs_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "without -O" in done.stderr
    assert "Traceback" not in done.stderr
