"""Goal: whoever finds a request by polling reads it, and one task at a time sleeps for the next.

Method: tasks that do what pyfuse3's do, over a pipe in the place of /dev/fuse.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from dfs.mount.fusetap.turns import Turns, trio_with
from tests.unit.mount.fusetap.fake_tap import FakeTap

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


async def take_turn(turns: Turns, descriptor: int, log: list[str], name: str) -> None:
    """One pass of pyfuse3's `_wait_fuse_readable`, and the read that follows it."""
    stand_in = trio_with(turns)
    async with stand_in.Lock():
        log.append(f"{name} waits")
        await stand_in.lowlevel.wait_readable(descriptor)
    log.append(f"{name} reads")


async def test_who_finds_a_request_reads_it_while_another_sleeps(pipe: tuple[int, int]) -> None:
    tap, log = FakeTap(), []
    turns = Turns(tap)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_turn, turns, pipe[0], log, "sleeper")
        await trio.testing.wait_all_tasks_blocked()
        tap.verdicts = [tap.READY, tap.READY]
        await take_turn(turns, pipe[0], log, "poller")
        await take_turn(turns, pipe[0], log, "poller")
        assert log == ["sleeper waits", *["poller waits", "poller reads"] * 2]
        os.write(pipe[1], b"x")
    assert log[-1] == "sleeper reads"


async def test_one_sleeps_at_a_time(pipe: tuple[int, int]) -> None:
    log: list[str] = []
    turns = Turns(FakeTap())
    async with trio.open_nursery() as nursery:
        for name in ("a", "b"):
            nursery.start_soon(take_turn, turns, pipe[0], log, name)
        await trio.testing.wait_all_tasks_blocked()
        assert len(log) == 1
        os.write(pipe[1], b"x")
    assert len(log) == 4


async def test_others_run_when_it_is_their_turn(pipe: tuple[int, int]) -> None:
    tap, log = FakeTap(), []

    async def other() -> None:
        log.append("other")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        tap.verdicts = [tap.READY, tap.YIELD, tap.YIELD]
        await take_turn(Turns(tap), pipe[0], log, "poller")
        assert "other" not in log
        for _ in range(2):  # the first may come before it, as tasks of one round do
            await take_turn(Turns(tap), pipe[0], log, "poller")
        assert log.count("other") == 1
        assert log[-1] == "poller reads", "pyfuse3 looks there whether it is to end"


async def test_being_cancelled_leaves_the_turns_free(pipe: tuple[int, int]) -> None:
    tap = FakeTap()
    turns = Turns(tap)
    for verdict in (tap.SLEEP, tap.YIELD):
        tap.verdicts = [verdict]
        with trio.CancelScope() as scope:
            scope.cancel()
            await take_turn(turns, pipe[0], [], "cancelled")
        assert scope.cancelled_caught
    os.write(pipe[1], b"x")
    log: list[str] = []
    await take_turn(turns, pipe[0], log, "next")
    assert log == ["next waits", "next reads"]


async def test_the_end_wakes_who_sleeps(pipe: tuple[int, int]) -> None:
    """`pyfuse3.terminate` tells trio that the descriptor closes."""
    log: list[str] = []

    async def sleeper() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await take_turn(Turns(FakeTap()), pipe[0], log, "sleeper")
        log.append("woken")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sleeper)
        await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.notify_closing(pipe[0])
    assert log == ["sleeper waits", "woken"]


def test_the_stand_in_has_the_rest_of_trio() -> None:
    stand_in = trio_with(Turns(FakeTap()))
    assert stand_in.open_nursery is trio.open_nursery
    assert stand_in.lowlevel.notify_closing is trio.lowlevel.notify_closing
    assert trio.lowlevel.wait_readable is not stand_in.lowlevel.wait_readable
