"""Goal: what a mount process leaves is readable by whoever waits for its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dfs.mount import trace
from dfs.mount.trace import Trace, leave_trace, read_trace, remove_trace, trace_path

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _own_runtime_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(trace, "runtime_directory", lambda: tmp_path / "run")


def test_a_trace_is_left_read_and_removed() -> None:
    assert read_trace(7) is None
    leave_trace(Trace(pid=7, mountpoint="/m", error="no server"))
    assert read_trace(7) == Trace(pid=7, mountpoint="/m", error="no server")
    remove_trace(7)
    remove_trace(7)
    assert read_trace(7) is None


def test_a_damaged_trace_is_no_trace() -> None:
    leave_trace(Trace(pid=7, mountpoint="/m"))
    trace_path(7).write_bytes(b"{")
    assert read_trace(7) is None


def test_without_a_place_for_it_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    from pathlib import Path

    monkeypatch.setattr(trace, "runtime_directory", lambda: Path("/proc/nowhere"))
    leave_trace(Trace(pid=7, mountpoint="/m"))
    assert read_trace(7) is None
    remove_trace(7)
