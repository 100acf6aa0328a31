"""Goal: umount says why it cannot, and tells when not everything became durable (I3)."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dfs.cli import umount
from dfs.cli.main import run
from dfs.cli.target import MountAnswer
from dfs.mount.trace import Trace
from dfs.mountpoint import MountEntry

if TYPE_CHECKING:
    from collections.abc import Iterator

MOUNT = "/mnt/d"


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    """A mount whose process has just ended."""
    started = subprocess.Popen([sys.executable, "-c", ""])
    monkeypatch.setattr(umount, "real_path", str)
    entry = MountEntry(MOUNT, "fuse.dfs", "h:1", "0:9")
    monkeypatch.setattr(umount, "find_mount", lambda path: entry if path == MOUNT else None)
    monkeypatch.setattr(umount, "is_stale", lambda path: False)
    answer = MountAnswer(pid=started.pid, addresses=("h:1",), mountpoint=MOUNT)
    monkeypatch.setattr(umount, "ask_mount", lambda path: answer)
    monkeypatch.setattr(umount, "take_off", lambda path, is_lazy: started.wait())
    monkeypatch.setattr(umount, "read_trace", lambda pid: None)
    with started:
        yield started


def test_all_durable(process: subprocess.Popen[bytes]) -> None:
    assert run(["umount", MOUNT]) == 0
    assert process.returncode == 0


def test_what_did_not_become_durable_is_said(
    process: subprocess.Popen[bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    removed: list[int] = []
    trace = Trace(pid=process.pid, mountpoint=MOUNT, error="no chunk server answers")
    monkeypatch.setattr(umount, "read_trace", lambda pid: trace)
    monkeypatch.setattr(umount, "remove_trace", removed.append)
    assert run(["umount", MOUNT]) == 1
    assert "no chunk server answers" in capsys.readouterr().err
    assert removed == [process.pid]


def test_in_use(
    process: subprocess.Popen[bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def busy(path: str, is_lazy: bool) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(umount, "take_off", busy)
    assert run(["umount", MOUNT]) == 1
    assert f"dfs umount --lazy {MOUNT}" in capsys.readouterr().err


@pytest.mark.usefixtures("process")
def test_what_is_no_mount_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["umount", "/no/such/place"]) == 1
    assert run(["umount", str(Path(__file__).parent)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert "no such directory" in lines[0]
    assert "not a mount point" in lines[1]
