"""Goal: exactly the processes of one cluster are found again and stopped in order.

Method: real small processes that carry the marks, as parts do.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from dfs import background
from dfs.cluster import parts
from dfs.cluster.directory import ClusterDirectory
from dfs.cluster.parts import Process, stop_in_order, surviving_processes

if TYPE_CHECKING:
    from pathlib import Path

POLITE = "import signal,sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); "
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
WAITING = "print('up', flush=True); signal.pause()"


@pytest.fixture
def place(tmp_path: Path) -> ClusterDirectory:
    return ClusterDirectory(tmp_path / "c")


def start(
    monkeypatch: pytest.MonkeyPatch, place: ClusterDirectory, role: str, program: str
) -> Process:
    monkeypatch.setattr(background, "dfs_command", lambda *a: [sys.executable, "-c", program])
    process = Process.start(place, role, [])
    while b"up" not in place.log(role).read_bytes():
        pass
    return process


async def test_parts_are_found_by_their_marks(
    monkeypatch: pytest.MonkeyPatch, place: ClusterDirectory, tmp_path: Path
) -> None:
    started = [start(monkeypatch, place, role, POLITE + WAITING) for role in ("meta", "chunk-0")]
    try:
        found = surviving_processes(place)
        assert {role: one.pid for role, one in found.items()} == {
            one.role: one.pid for one in started
        }
        assert surviving_processes(ClusterDirectory(tmp_path / "other")) == {}
        assert await stop_in_order(found) == []
        assert all(one.has_ended for one in started)
        for one in found.values():
            one.close()
    finally:
        for one in started:
            await one.stop()
            one.close()


async def test_the_status_of_an_own_child_is_known(
    monkeypatch: pytest.MonkeyPatch, place: ClusterDirectory
) -> None:
    failing = start(monkeypatch, place, "meta", "print('up', flush=True); raise SystemExit(3)")
    assert await failing.wait() == 3
    assert await failing.stop() == "meta ended with status 3"
    failing.close()


async def test_who_does_not_listen_is_killed(
    monkeypatch: pytest.MonkeyPatch, place: ClusterDirectory
) -> None:
    monkeypatch.setattr(parts, "STOP_PATIENCE_S", 0.05)
    stubborn = start(monkeypatch, place, "chunk-1", STUBBORN + WAITING)
    (problem,) = await stop_in_order({"chunk-1": stubborn})
    assert "was killed" in problem
    assert stubborn.has_ended
    stubborn.close()


async def test_the_mount_ends_before_the_servers(place: ClusterDirectory) -> None:
    order: list[str] = []

    class Noted:
        def __init__(self, role: str) -> None:
            self.role = role

        async def stop(self) -> str:
            order.append(self.role)
            return ""

    roles = ["chunk-0", "meta", "chunk-1", "mount"]
    await stop_in_order({role: Noted(role) for role in roles})  # type: ignore[misc]
    assert order[:2] == ["mount", "meta"]
    assert set(order[2:]) == {"chunk-0", "chunk-1"}
