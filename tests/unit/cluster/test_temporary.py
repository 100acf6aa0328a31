"""Goal: servers that run for a check are all stopped after it, and one that cannot start is said.

Method: parts that are small real processes, and a metadata server that answers as the test says.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from dfs import background
from dfs.cluster import temporary
from dfs.cluster.directory import ClusterDirectory, ClusterSettings
from dfs.cluster.parts import surviving_processes
from dfs.cluster.temporary import running_servers
from dfs.errors import UserError
from dfs.types import ServerState
from tests.unit.cluster.test_health import reply

if TYPE_CHECKING:
    from pathlib import Path

    from dfs.core.messages import StatusReply

LIVING = "import signal,sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); signal.pause()"
FAILING = "raise SystemExit('no room')"


@pytest.fixture
def place(tmp_path: Path) -> ClusterDirectory:
    directory = ClusterDirectory(tmp_path / "c")
    directory.write_settings(ClusterSettings(chunk_servers=1, copies=1, mountpoint="/m"))
    return directory


def parts_run(monkeypatch: pytest.MonkeyPatch, **programs: str) -> None:
    def command(*arguments: str) -> list[str]:
        return [sys.executable, "-c", programs[arguments[0]]]

    monkeypatch.setattr(background, "dfs_command", command)


def answers(monkeypatch: pytest.MonkeyPatch, status: StatusReply | None) -> None:
    async def answer(address: str) -> StatusReply | None:
        return status

    monkeypatch.setattr(temporary, "ask_status", answer)


async def test_servers_live_as_long_as_the_block(
    monkeypatch: pytest.MonkeyPatch, place: ClusterDirectory
) -> None:
    parts_run(monkeypatch, meta=LIVING, chunk=LIVING)
    answers(monkeypatch, reply(ServerState.UP))
    async with running_servers(place):
        found = surviving_processes(place)
        assert set(found) == {"meta", "chunk-0"}
        assert place.is_running
    assert surviving_processes(place) == {}
    assert not place.is_running
    for process in found.values():
        process.close()


async def test_a_metadata_server_that_cannot_start(
    monkeypatch: pytest.MonkeyPatch, place: ClusterDirectory
) -> None:
    parts_run(monkeypatch, meta=FAILING, chunk=LIVING)
    answers(monkeypatch, None)
    with pytest.raises(UserError, match="no room"):
        async with running_servers(place):
            raise AssertionError("never entered")
    assert surviving_processes(place) == {}


async def test_a_chunk_server_that_cannot_start_is_left_out(
    monkeypatch: pytest.MonkeyPatch, place: ClusterDirectory
) -> None:
    parts_run(monkeypatch, meta=LIVING, chunk=FAILING)
    answers(monkeypatch, reply(ServerState.DOWN))
    async with running_servers(place):
        assert place.is_running
    assert surviving_processes(place) == {}


async def test_a_running_cluster_is_left_alone(place: ClusterDirectory) -> None:
    lock = place.lock()
    assert lock is not None
    with lock:
        async with running_servers(place):
            assert surviving_processes(place) == {}
