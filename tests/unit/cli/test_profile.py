"""Goal: a profile is begun, waited for and shown; whoever may not, or comes too early, is told so.

Method: a mount that answers by its state, and a clock that only sleeping moves.
"""

from __future__ import annotations

import errno
import json
import os
import time
from typing import Any

import msgspec
import pytest

from dfs.cli import profile
from dfs.cli.main import run
from dfs.mount.profiler import ProfileState
from dfs.mount.samples import FunctionShare, ProfileReport

REPORT = ProfileReport(
    seconds=5.0,
    look_count=1234,
    cpu_s=1.0,
    parts={"waiting for requests": 0.75, "client": 0.25},
    worker_parts={"hashing": 0.125},
    most_own=[
        FunctionShare(name="Fetcher.read", place="dfs/client/fetcher.py:94", own=0.2, total=0.25)
    ],
    most_total=[FunctionShare(name="answer", place="dfs/mount/answers.py:40", own=0, total=0.25)],
)


class FakeMount:
    """Takes profiles that last `late_s` longer than they should; or refuses with `refusal`."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now_s = 100.0
        self.asked: list[str] = []
        self.late_s = 0.05
        self.refusal = 0
        self.report: ProfileReport | None = REPORT
        self.number = 7
        self._over_s = 0.0
        patch.setattr(os, "getxattr", self._getxattr)
        patch.setattr(time, "sleep", self._sleep)
        patch.setattr(time, "monotonic", lambda: self.now_s)

    def _sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def _getxattr(self, path: str, name: str, **_: Any) -> bytes:
        self.asked.append(name)
        if self.refusal:
            raise OSError(self.refusal, os.strerror(self.refusal))
        begin = name.removeprefix("system.dfs.profile.")
        if begin != name:
            self._over_s = self.now_s + int(begin) + self.late_s
            return b'{"number":7}'
        is_running = self.now_s < self._over_s
        report = None if is_running else self.report
        return msgspec.json.encode(
            ProfileState(number=self.number, is_running=is_running, report=report)
        )


@pytest.fixture
def mount(monkeypatch: pytest.MonkeyPatch) -> FakeMount:
    return FakeMount(monkeypatch)


def test_parts_and_functions(mount: FakeMount, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["profile", "/m"]) == 0
    said = capsys.readouterr().out
    for words in (
        "/m: 5.0 s, 1,234 looks, 20% of a processor",
        "waiting for requests   75.0%",
        "hashing          12.5%",
        "20.0%   25.0%   Fetcher.read   dfs/client/fetcher.py:94",
        "most total time",
    ):
        assert words in said
    assert mount.asked[0] == "system.dfs.profile.5"
    assert mount.asked[1:] == ["system.dfs.profile"] * len(mount.asked[1:])
    assert len(mount.asked) <= 4, "it is left alone while it is looked at"
    assert run(["profile", "/m", "--seconds", "2", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["mount"] == "/m"
    assert document["most_own"][0]["own"] == 0.2


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.EPERM, "only root"), (errno.EACCES, "only root"), (errno.EBUSY, "again in a minute")],
)
def test_a_refusal_says_what_to_do(
    mount: FakeMount, capsys: pytest.CaptureFixture[str], number: int, words: str
) -> None:
    mount.refusal = number
    assert run(["profile", "/m"]) == 1
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_a_profile_that_does_not_come(mount: FakeMount, capsys: pytest.CaptureFixture[str]) -> None:
    mount.late_s = 1e9
    assert run(["profile", "/m"]) == 1
    assert "does not end" in capsys.readouterr().err
    assert mount.now_s < 100 + 5 + 2 * profile.LATE_S_MAX
    mount.late_s, mount.report = 0, None
    assert run(["profile", "/m"]) == 1
    assert "failed" in capsys.readouterr().err
    mount.number = 8
    assert run(["profile", "/m"]) == 1
    assert "another profile" in capsys.readouterr().err


def test_too_long_a_time_is_refused(mount: FakeMount) -> None:
    assert run(["profile", "/m", "--seconds", "61"]) == 2
    assert mount.asked == []
