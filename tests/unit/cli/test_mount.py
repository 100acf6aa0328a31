"""Goal: a mount in the background is asked for with absolute names, whatever was typed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfs.cli import mount
from dfs.cli.main import run
from dfs.cli.mount import default_log

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_names_become_absolute(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[tuple[list[str], Path]] = []
    monkeypatch.setattr(mount, "start_in_background", lambda a, log: started.append((a, log)))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cluster").mkdir()
    (tmp_path / "m").mkdir()
    assert run(["mount", "cluster:/sub", "m", "-o", "ro", "-o", "noatime", "--log", "l"]) == 0
    assert run(["mount", "h:1", str(tmp_path / "m")]) == 0
    (first, first_log), (second, second_log) = started
    assert first == [
        *("mount", f"{tmp_path}/cluster:/sub", f"{tmp_path}/m", "--foreground"),
        *("--log", f"{tmp_path}/l", "-o", "ro,noatime"),
    ]
    assert first_log == tmp_path / "l"
    assert second[1] == "h:1"
    assert second_log == default_log(str(tmp_path / "m"))
    assert "/" not in second_log.name
    assert capsys.readouterr().out == ""
