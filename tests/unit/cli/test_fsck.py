"""Goal: what the check finds is shown whole, and the exit status follows from it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from dfs.cli import fsck as fsck_module
from dfs.cli.main import run
from dfs.fsck.report import Problem, Report

if TYPE_CHECKING:
    import pytest

ERROR = Problem("I6 reference counts", "block ab", "count is 2, extents 1", True)
WARNING = Problem("I1 block copies", "degraded", "3 blocks have fewer than 2", False)


def finds(monkeypatch: pytest.MonkeyPatch, report: Report) -> list[tuple[Any, ...]]:
    asked: list[tuple[Any, ...]] = []

    async def check(found: Any, verify_data: bool, is_repairing: bool, progress: Any) -> Report:
        progress("records", 1, None)
        asked.append((found.name, verify_data, is_repairing))
        return report

    monkeypatch.setattr(fsck_module, "_check", check)
    return asked


def test_errors_are_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = Report(
        error_count=1, problems=[ERROR, WARNING], repaired=["a thing"], unreachable=["rack1"]
    )
    asked = finds(monkeypatch, report)
    assert run(["fsck", "h:1", "--repair", "--verify-data"]) == 1
    assert asked == [("h:1", True, True)]
    said = capsys.readouterr().out
    for words in ("error: block ab", "warning: degraded", "repaired: a thing", "rack1", "1 errors"):
        assert words in said
    assert run(["fsck", "h:1", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["report"]["problems"][0]["is_error"] is True


def test_warnings_are_clean(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finds(monkeypatch, Report(problems=[WARNING], inodes=5))
    assert run(["fsck", "h:1"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "clean"
