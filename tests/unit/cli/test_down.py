"""Goal: `dfs down` finds the cluster that is meant, and says what did not go well."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from dfs.cli import down as down_module
from dfs.cli.main import run
from dfs.cluster.control import DownReport
from dfs.cluster.directory import ClusterDirectory

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_the_only_one_that_runs_is_meant(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[Any, bool]] = []
    problems: tuple[str, ...] = ()

    def down(directory: Any, *, is_lazy: bool, progress: Any) -> DownReport:
        asked.append((directory.top, is_lazy))
        return DownReport(directory=str(directory.top), was_running=True, problems=problems)

    one = ClusterDirectory(tmp_path / "a")
    monkeypatch.setattr(down_module, "down", down)
    monkeypatch.setattr(down_module, "running_clusters", lambda: [one])
    monkeypatch.setattr("dfs.cli.target.running_clusters", lambda: [one])
    assert run(["down", "--lazy"]) == 0
    assert asked == [(one.top, True)]
    assert "is stopped" in capsys.readouterr().out
    problems = ("chunk-0 was killed",)
    assert run(["down", "--dir", str(tmp_path / "b"), "--json"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["problems"] == ["chunk-0 was killed"]
    assert captured.err.startswith("dfs: chunk-0 was killed")
