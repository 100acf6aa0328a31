"""Goal: the quick measure works in any directory, checks what it reads, and leaves nothing."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

import pytest

from dfs.cli import bench
from dfs.cli.main import run
from dfs.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path


def test_every_measure_has_a_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "FILES", 10)
    monkeypatch.setattr(bench, "SYNCED_APPENDS", 2)
    assert run(["bench", str(tmp_path), "--size", "2", "--json"]) == 0
    measures = json.loads(capsys.readouterr().out)["measures"]
    assert len(measures) == 10
    assert all(measure["per_second"] > 0 for measure in measures)
    assert list(tmp_path.iterdir()) == []


def test_other_bytes_than_were_written_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"other")
    with pytest.raises(UserError, match="other bytes"):
        bench._read_all([str(tmp_path / "f")], b"these")
    with pytest.raises(UserError, match="other bytes"):
        bench._read_large(str(tmp_path / "f"), [b"these"], 1)


def test_a_failure_leaves_nothing_either(tmp_path: Path) -> None:
    with contextlib.suppress(ValueError), bench._own_directory(str(tmp_path)) as place:
        (tmp_path / place / "x").touch()
        raise ValueError("inside")
    assert list(tmp_path.iterdir()) == []
