"""Goal: people see every server and what is wrong; the exit status says the same."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec

from dfs.cli import status as status_module
from dfs.cli.main import run
from dfs.core.messages import SessionStatus, StatusReply
from dfs.types import OpNumber, SessionId
from tests.unit.cli.test_health import DOWN, UP, status_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest


def answers(monkeypatch: pytest.MonkeyPatch, status: StatusReply) -> None:
    async def answer(environment: object, addresses: Sequence[str]) -> StatusReply:
        return status

    monkeypatch.setattr(status_module, "first_status", answer)


def test_a_healthy_cluster(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    session = SessionStatus(SessionId(9), "host:7:/mnt/d", 3, 12, OpNumber(5), 0.2)
    answers(monkeypatch, msgspec.structs.replace(status_of(UP, UP), sessions=(session,)))
    assert run(["status", "h:1"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("h:1: healthy\n")
    for word in ("h0:1", "h1:1", "host:7:/mnt/d", "100.0 GiB"):
        assert word in said


def test_a_degraded_cluster(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(monkeypatch, status_of(UP, DOWN, UP))
    assert run(["status", "h:1", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["health"]["servers_up"] == 2
    assert document["status"]["cluster_map"]["copies"] == 2
    assert run(["status", "h:1"]) == 1
    assert "1 of 3 chunk servers are down" in capsys.readouterr().out
