"""Goal: a background process says truly whether it is ready, and its end is seen."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
import pytest

from dfs import background
from dfs.background import (
    ReadyLine,
    dfs_command,
    dfs_environment,
    last_line,
    log_directory,
    open_process,
    runtime_directory,
    send_signal,
    spawn,
    start_in_background,
    tell_parent,
    wait_for_end,
)
from dfs.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

READY = 'import sys,os,time; os.write(int(sys.argv[-1]), b"{}\\n"); sys.stdin.read()'
REFUSING = (
    "import sys,os; os.write(int(sys.argv[-1]),"
    ' b\'{"error":"port taken","exit_status":2}\\n\'); sys.exit(2)'
)
SILENT = "print('last words')"


def runs(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """`dfs` is this program, for a while."""
    monkeypatch.setattr(background, "dfs_command", lambda *a: [sys.executable, "-c", program, *a])


def test_a_child_that_is_ready(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    runs(monkeypatch, READY)
    pid = start_in_background(["mount"], tmp_path / "log" / "x.log")
    assert os.waitpid(pid, 0) == (pid, 0)


def test_a_child_that_says_why_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    runs(monkeypatch, REFUSING)
    with pytest.raises(UserError, match="port taken") as caught:
        start_in_background(["mount"], tmp_path / "x.log")
    assert caught.value.exit_status == 2


def test_a_child_that_ends_in_silence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    runs(monkeypatch, SILENT)
    with pytest.raises(UserError, match="ended before it was ready"):
        start_in_background(["mount"], tmp_path / "x.log")
    assert last_line(tmp_path / "x.log") == "last words"


def test_a_child_is_in_a_session_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs(monkeypatch, "import os; print(os.getsid(0) == os.getpid(), os.getcwd(), os.environ['A'])")
    child = spawn([], tmp_path / "x.log", extra_environment={"A": "b"})
    assert child.wait() == 0
    assert last_line(tmp_path / "x.log") == "True / b"


def test_the_same_dfs_is_found_from_anywhere() -> None:
    done = subprocess.run(
        dfs_command("--version"), cwd="/", env=dfs_environment(), capture_output=True, check=False
    )
    assert done.stdout.startswith(b"dfs ")
    first = dfs_environment()["PYTHONPATH"]
    os.environ["PYTHONPATH"] = first
    try:
        assert dfs_environment()["PYTHONPATH"] == first
    finally:
        del os.environ["PYTHONPATH"]


def test_telling_a_parent_that_left_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    tell_parent(writing, ReadyLine())
    tell_parent(None, ReadyLine())
    reading, writing = os.pipe()
    tell_parent(writing, ReadyLine(error="why"))
    assert msgspec.json.decode(os.read(reading, 100), type=ReadyLine).error == "why"
    os.close(reading)


def test_the_end_of_a_process_is_seen() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        pidfd = open_process(process.pid)
        assert pidfd is not None
        assert not wait_for_end(pidfd, 0)
        send_signal(pidfd, signal.SIGKILL)
        assert wait_for_end(pidfd, 60)
        process.wait()
    send_signal(pidfd, signal.SIGKILL)
    os.close(pidfd)
    assert open_process(process.pid) is None


def test_directories_of_root_and_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, directory in [
        ("DFS_RUNTIME_DIR", runtime_directory),
        ("DFS_LOG_DIR", log_directory),
    ]:
        monkeypatch.setenv(variable, "/elsewhere")
        assert str(directory()) == "/elsewhere"
        monkeypatch.delenv(variable)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert (str(runtime_directory()), str(log_directory())) == ("/run/dfs", "/var/log/dfs")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert (str(runtime_directory()), str(log_directory())) == ("/run/user/1000/dfs", "/state/dfs")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert str(runtime_directory()) == "/tmp/dfs-1000"


def test_the_last_line_of_no_log(tmp_path: Path) -> None:
    assert last_line(tmp_path / "none") == ""
    (tmp_path / "x").write_bytes(b"a\n" * 10_000 + b"z \n\n \n")
    assert last_line(tmp_path / "x") == "z"
