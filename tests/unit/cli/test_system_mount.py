"""Goal: what mount(8) passes is understood, and its exit statuses are answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfs.cli import system_mount
from dfs.cli.main import run
from dfs.errors import UserError

if TYPE_CHECKING:
    import pytest


def test_arguments_of_mount(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[object, ...]] = []
    answers: list[Exception] = []

    def start(*arguments: object) -> None:
        asked.append(arguments)
        if answers:
            raise answers.pop()

    monkeypatch.setattr(system_mount, "mount_in_background", start)
    assert run(["mount-helper", "h:1", "/m", "-n", "-v", "-o", "ro,_netdev", "-t", "dfs"]) == 0
    assert run(["mount-helper", "h:1", "/m", "-s", "-o", "ro,odd=1"]) == 0
    assert asked == [("h:1", "/m", "ro,_netdev", None), ("h:1", "/m", "ro", None)]
    assert run(["mount-helper", "h:1", "/m", "-f"]) == 0
    assert len(asked) == 2
    answers.append(UserError("no server"))
    assert run(["mount-helper", "h:1", "/m"]) == system_mount.FAILED_STATUS
    answers.append(UserError("odd option", exit_status=2))
    assert run(["mount-helper", "h:1", "/m"]) == system_mount.USAGE_STATUS
    assert capsys.readouterr().err == "mount.dfs: no server\nmount.dfs: odd option\n"
