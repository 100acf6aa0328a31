"""Simulated processes: they die where they are told to, are slow at fault points, stand still."""

from __future__ import annotations

import pytest
import trio

from tests.simulation.doom import MOMENTS
from tests.simulation.fault_points import FaultPoints
from tests.simulation.network import SimNetwork
from tests.simulation.process import WALL_CLOCK_START_NS, Killed, Process
from tests.simulation.trace import Trace

ROUNDS = 20


def _process(points: FaultPoints | None = None) -> Process:
    trace = Trace()
    return Process("p", "host", SimNetwork("1", trace), "1", trace, points)


async def _run(process: Process) -> int:
    """How many rounds it got through."""
    rounds = 0

    async def work(process: Process) -> None:
        nonlocal rounds
        for _ in range(ROUNDS):
            await trio.sleep(1)
            process.operation()
            await process.fault_point("a round is half done")
            rounds += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(process.run, work)
        await process.ended.wait()
    return rounds


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_doomed_process_dies_at_that_moment(moment: str, autojump_clock: object) -> None:
    reached = []
    for count in (1, 5):
        process = _process()
        process.arm(moment, count, process.kill)
        reached.append(await _run(process))
        assert not process.is_alive
        assert process.failure is None
    assert reached[0] == 0
    assert 0 < reached[1] < 6


async def test_a_process_whose_doom_is_lifted_lives(autojump_clock: object) -> None:
    process = _process()
    process.arm("step", 1, process.kill)
    process.disarm()
    assert await _run(process) == ROUNDS


async def test_armed_points_are_slow_and_others_are_not(autojump_clock: object) -> None:
    points = FaultPoints("1")
    assert await _run(_process(points)) == ROUNDS
    assert trio.current_time() == ROUNDS
    points.begin(armed_chance=1.0, delay_s=5.0)
    assert await _run(_process(points)) == ROUNDS
    assert trio.current_time() > 2 * ROUNDS + 1
    assert points.passed == {"a round is half done": 2 * ROUNDS}
    points.end()
    assert points.delay_s("a round is half done") == 0


async def test_a_frozen_process_believes_that_no_time_has_passed(autojump_clock: object) -> None:
    process = _process()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_run, process)
        await trio.sleep(3.5)
        process.freeze()
        await trio.sleep(1000)
        process.thaw()
        started_s = trio.current_time()
    assert trio.current_time() - started_s == pytest.approx(ROUNDS - 4)


async def test_a_frozen_process_can_be_killed(autojump_clock: object) -> None:
    process = _process()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_run, process)
        await trio.sleep(3.5)
        process.freeze()
        process.kill()
    assert trio.current_time() == 3.5
    with pytest.raises(Killed):
        process.operation()


async def test_a_wall_clock_may_be_wrong(autojump_clock: object) -> None:
    process = _process()
    process.clock_offset_ns = -7
    assert process.environment.now_ns() == WALL_CLOCK_START_NS - 7
