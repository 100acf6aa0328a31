"""Goal: `dfs up` passes on what was asked and says what there is now."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfs.cli import up as up_module
from dfs.cli.main import run
from dfs.cluster.control import UpReport

if TYPE_CHECKING:
    import pytest


def test_wishes_are_passed_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[dict[str, Any]] = []

    def up(directory: Any, *, progress: Any, **wishes: Any) -> UpReport:
        asked.append(wishes)
        return UpReport(
            directory=str(directory.top),
            mountpoint=wishes["mountpoint"] or "/mnt/d",
            address="unix:/x",
            chunk_servers=1,
            copies=1,
            is_new=len(asked) == 1,
        )

    monkeypatch.setattr(up_module, "up", up)
    options = ["--mount", str(tmp_path / "m"), "--chunk-servers", "1", "--copies", "1"]
    assert run(["up", "--dir", str(tmp_path), *options]) == 0
    assert asked == [{"mountpoint": str(tmp_path / "m"), "chunk_servers": 1, "copies": 1}]
    assert "1 chunk server, 1 copy" in capsys.readouterr().out
    assert run(["up", "--dir", str(tmp_path)]) == 0
    assert "already running" in capsys.readouterr().out
    assert run(["up", "--dir", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["directory"] == str(tmp_path)


def test_the_usual_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert up_module.default_directory() == "/var/lib/dfs"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert up_module.default_directory() == "/data/dfs"
    monkeypatch.delenv("XDG_DATA_HOME")
    assert up_module.default_directory() == str(Path.home() / ".local/share/dfs")
