"""Goal: what a mount tells is shown to people and programs; what cannot be had is said in a line.

Method: a mount that answers from a list, and a clock that only sleeping moves.
"""

from __future__ import annotations

import errno
import json
import os
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from dfs.cli import stats
from dfs.cli.main import run
from dfs.mount.statistics import MountStatistics
from tests.unit.cli.test_rates import AFTER, BEFORE

if TYPE_CHECKING:
    from pathlib import Path


class FakeMount:
    """Answers with one after the other, then the last again and again; counts the seconds slept."""

    def __init__(self, patch: pytest.MonkeyPatch, *answers: MountStatistics) -> None:
        self.answers = list(answers)
        self.now_s = 100.0
        self.asked_s: list[float] = []
        patch.setattr(os, "getxattr", self._getxattr)
        patch.setattr(time, "sleep", self._sleep)
        patch.setattr(time, "monotonic", lambda: self.now_s)

    def _getxattr(self, path: str, name: str, **_: Any) -> bytes:
        assert (path, name) == ("/m", stats.STATS_XATTR)
        self.asked_s.append(self.now_s)
        self.now_s += 0.01
        return msgspec.json.encode(self.answers.pop(0) if self.answers[1:] else self.answers[0])

    def _sleep(self, seconds: float) -> None:
        self.now_s += seconds


def test_alone_it_shows_a_second(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mount = FakeMount(monkeypatch, BEFORE, AFTER)
    assert run(["stats", "/m"]) == 0
    said = capsys.readouterr().out
    for words in (
        "/m: process 7, up 12 s, with the tap",
        "3 requests in work; 4 ops unanswered, 2 of them owed",
        "9 inodes, 8 of them exclusive; 7 names",
        "in 2.0 s: 50% of a processor",
        "5 of 6 lookups, 0 of 3 getattrs",
        "3 of 4",
        "10 done here, 1 asked, 0 commits",
    ):
        assert words in said
    cells = {line.split()[0]: line.split()[1:] for line in said.splitlines() if line.split()}
    assert cells["read"] == ["25", "20", "10.0", "20.000", "≤", "0.032", "2"]
    assert cells["write"] == ["0", "0", "0.0", "1"]
    assert cells["metadata"] == ["Lookup", "8", "4", "2.0", "250.000"]
    assert "rmdir" not in cells, "nothing of it in the interval"
    assert mount.asked_s == pytest.approx([100, 101])


def test_totals_then_intervals_on_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mount = FakeMount(monkeypatch, BEFORE, AFTER)
    assert run(["stats", "/m", "--interval", "5", "--count", "3"]) == 0
    said = capsys.readouterr().out
    assert said.count("since the mount began: ") == 1
    assert said.count("up 10 s") == 1
    assert said.index("since the mount began") < said.index("in 2.0 s") < said.index("in 0.0 s")
    assert mount.asked_s == pytest.approx([100, 105, 110, 115])
    FakeMount(monkeypatch, AFTER)
    assert run(["stats", "/m", "--count", "0"]) == 0
    assert "rmdir" in capsys.readouterr().out


def test_programs_get_a_line_for_each_look(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for options, count in (
        ([], 1),
        (["--count", "2"], 3),
        (["--interval", "3", "--count", "1"], 2),
    ):
        FakeMount(monkeypatch, BEFORE, AFTER)
        assert run(["stats", "/m", "--json", *options]) == 0
        documents = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert len(documents) == count
        assert documents[0]["requests"]["read"]["count"] == 5
        assert all(one["requests"]["read"]["count"] == 25 for one in documents[1:])


def test_without_the_tap_it_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    FakeMount(monkeypatch, msgspec.structs.replace(AFTER, slow_because="no compiler"))
    assert run(["stats", "/m", "--count", "0"]) == 0
    assert "without the tap: no compiler" in capsys.readouterr().out


def test_a_mount_made_anew_is_another(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    FakeMount(monkeypatch, BEFORE, MountStatistics(pid=8))
    assert run(["stats", "/m"]) == 1
    assert "mounted anew" in capsys.readouterr().err


def test_what_cannot_be_read_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(["stats", str(tmp_path)]) == 2
    assert "not on a dfs mount" in capsys.readouterr().err
    monkeypatch.setattr(os, "getxattr", lambda *_, **__: b'{"pid": "x"}')
    assert run(["stats", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "runs another dfs" in said
    assert said.count("\n") == 1

    def older(path: str, name: str) -> bytes:
        if name == stats.STATS_XATTR:
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
        return b'{"pid": 1, "addresses": [], "mountpoint": "/m"}'

    monkeypatch.setattr(os, "getxattr", older)
    assert run(["stats", str(tmp_path)]) == 1
    assert "runs an older dfs" in capsys.readouterr().err
