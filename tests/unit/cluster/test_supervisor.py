"""Goal: parts come back when they die, stay away when they ended on purpose, and never spin.

Method: a supervisor on virtual time over parts that end as the test says.
"""

from __future__ import annotations

import math
import os
import signal
from collections import defaultdict
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, ClassVar

import pytest
import trio
import trio.testing

from dfs.cluster import supervisor as supervisor_module
from dfs.cluster.directory import ClusterDirectory, ClusterSettings, PartState
from dfs.cluster.supervisor import (
    BACKOFF_MAX_S,
    BACKOFF_MIN_S,
    Supervisor,
    backoff_s,
    supervise,
)
from dfs.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = ClusterSettings(chunk_servers=1, copies=1, mountpoint="/m")


class Part:
    """A process that lives until `ends`."""

    made: ClassVar[defaultdict[str, list[Part]]] = defaultdict(list)

    def __init__(self, role: str) -> None:
        self.role = role
        self.pid = 1000 + len(self.made[role])
        self.started_s = trio.current_time()
        self.status: int | None = None
        self.end = trio.Event()
        self.is_closed = False
        self.made[role].append(self)

    @classmethod
    def start(cls, directory: ClusterDirectory, role: str, arguments: list[str]) -> Part:
        assert arguments
        return cls(role)

    def ends(self, status: int | None) -> None:
        self.status = status
        self.end.set()

    async def wait(self) -> int | None:
        await self.end.wait()
        return self.status

    async def stop(self) -> str:
        self.ends(0)
        return ""

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ClusterDirectory:
    async def listens(self: Supervisor) -> None:
        await trio.lowlevel.checkpoint()

    Part.made.clear()
    monkeypatch.setattr(supervisor_module, "Process", Part)
    monkeypatch.setattr(supervisor_module, "surviving_processes", lambda directory: {})
    clock = SimpleNamespace(monotonic=trio.current_time)
    monkeypatch.setattr(supervisor_module, "time", clock)
    monkeypatch.setattr(Supervisor, "_meta_listens", listens)
    directory = ClusterDirectory(tmp_path / "c")
    directory.make_run_directories()
    return directory


def state_of(place: ClusterDirectory, role: str) -> PartState:
    state = place.read_state()
    assert state is not None
    return next(part for part in state.parts if part.role == role)


async def start(place: ClusterDirectory, nursery: trio.Nursery) -> None:
    ready = trio.Event()
    nursery.start_soon(partial(Supervisor(place, SETTINGS).run, tell_ready=ready.set))
    await ready.wait()
    await trio.testing.wait_all_tasks_blocked()


def signal_self(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


def test_back_off_grows_to_its_limit() -> None:
    assert backoff_s(0) == backoff_s(1) == BACKOFF_MIN_S
    assert math.isclose(backoff_s(3), 4 * BACKOFF_MIN_S)
    assert backoff_s(1000) == BACKOFF_MAX_S


@pytest.mark.usefixtures("autojump_clock")
@pytest.mark.expects_warnings
async def test_a_killed_part_comes_back_soon(place: ClusterDirectory) -> None:
    async with trio.open_nursery() as nursery:
        await start(place, nursery)
        for _ in range(20):
            Part.made["meta"][-1].ends(-signal.SIGKILL)
            before_s = trio.current_time()
            await trio.sleep(BACKOFF_MIN_S + 0.01)
            assert not Part.made["meta"][-1].end.is_set()
            assert trio.current_time() - before_s < 1
        assert state_of(place, "meta").failures == 0
        assert len(Part.made["mount"]) == 1
        signal_self(signal.SIGTERM)
    assert all(part.end.is_set() for made in Part.made.values() for part in made)
    state = place.read_state()
    assert state is not None
    assert (state.supervisor, state.parts, state.is_stopping) == (0, (), True)


@pytest.mark.usefixtures("autojump_clock")
async def test_what_ended_on_purpose_rests_until_it_is_wanted(place: ClusterDirectory) -> None:
    async with trio.open_nursery() as nursery:
        await start(place, nursery)
        Part.made["mount"][0].ends(0)
        await trio.sleep(1000)
        assert len(Part.made["mount"]) == 1
        assert state_of(place, "mount").phase == "ended"
        assert state_of(place, "mount").pid == 0
        signal_self(signal.SIGHUP)
        await trio.sleep(1)
        assert len(Part.made["mount"]) == 2
        assert state_of(place, "mount").phase == "running"
        assert len(Part.made["meta"]) == 1
        signal_self(signal.SIGTERM)


@pytest.mark.usefixtures("autojump_clock")
@pytest.mark.expects_warnings
async def test_a_part_that_cannot_start_is_not_tried_in_a_hurry(place: ClusterDirectory) -> None:
    place.log("chunk-0").write_text("dfs: no room for blocks\n")
    async with trio.open_nursery() as nursery:
        await start(place, nursery)
        for _ in range(10):
            Part.made["chunk-0"][-1].ends(1)
            await trio.sleep(BACKOFF_MAX_S + 0.1)
        now = state_of(place, "chunk-0")
        assert now.failures == 10
        assert now.problem == "dfs: no room for blocks"
        assert len(Part.made["chunk-0"]) == 11
        Part.made["chunk-0"][-1].ends(1)
        await trio.sleep(BACKOFF_MAX_S - 0.1)
        assert len(Part.made["chunk-0"]) == 11
        signal_self(signal.SIGTERM)


@pytest.mark.usefixtures("autojump_clock")
async def test_survivors_are_taken_over(
    place: ClusterDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        supervisor_module, "surviving_processes", lambda directory: {"meta": Part("meta")}
    )
    async with trio.open_nursery() as nursery:
        await start(place, nursery)
        assert len(Part.made["meta"]) == len(Part.made["chunk-0"]) == 1
        assert state_of(place, "meta").pid == Part.made["meta"][0].pid
        signal_self(signal.SIGTERM)
    assert Part.made["meta"][0].end.is_set()


def test_a_second_supervisor_is_refused(place: ClusterDirectory) -> None:
    place.write_settings(SETTINGS)
    lock = place.lock()
    assert lock is not None
    with lock, pytest.raises(UserError, match="already running"):
        supervise(place, tell_ready=lambda: None)
