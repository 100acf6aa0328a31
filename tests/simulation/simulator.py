"""Runs a whole cluster in one process, as a function of its seed.

| what would differ from run to run | what is there instead |
|---|---|
| time | `scheduler.VirtualClock`, which jumps when all tasks wait |
| the order in which tasks run | trio's scheduler, sorted by task number and shuffled by the seed |
| threads | `Process.run_blocking`: inline, at a moment that the seed chooses |
| network, disks, engines | `network.py`, `disk.py`, `engine.py` |
| random numbers, wall clock | `Environment.random`, `Environment.now_ns` |
| hashes of strings, and so the order of sets | PYTHONHASHSEED, which must be fixed: see `run.py` |
| collection of cyclic garbage | switched off while a run lasts |
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

import trio

from tests.simulation.block_scene import play_blocks
from tests.simulation.scene import play_files
from tests.simulation.scheduler import VirtualClock, seeded_scheduler
from tests.simulation.trace import TraceHandler
from tests.simulation.world import World

if TYPE_CHECKING:
    from tests.simulation.scenarios import Scenario
    from tests.simulation.trace import Trace

VIRTUAL_PATIENCE_S = 3600.0
"""A run that takes longer hangs."""

PLAYS = {"files": play_files, "blocks": play_blocks}


class Outcome(NamedTuple):
    """How a run ended. `problem` is empty when every check held."""

    problem: str
    trace: Trace
    virtual_s: float
    error: BaseException | None


def run(seed: int, scenario: Scenario) -> Outcome:
    """Play the scenario with this seed. Equal arguments give equal traces."""
    outcome: list[Outcome] = []

    async def main() -> None:
        outcome.append(await _run_world(seed, scenario))

    with seeded_scheduler(f"{scenario.name}/{seed}/scheduler"):
        trio.run(main, clock=VirtualClock())
    return outcome[0]


async def _run_world(seed: int, scenario: Scenario) -> Outcome:
    async with trio.open_nursery() as nursery:
        world = World(f"{scenario.name}/{seed}", nursery)
        handler = TraceHandler(world.trace)
        logger = logging.getLogger("dfs")
        level, logger.propagate = logger.level, False
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        try:
            await _play_until_failure(world, scenario)
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = True
        virtual_s = trio.current_time()
        for machine in world.machines.values():
            machine.kill()
        for process in world.replaced:
            process.kill()
        nursery.cancel_scope.cancel()
    return Outcome(world.problem, world.trace, virtual_s, world.error)


async def _play_until_failure(world: World, scenario: Scenario) -> None:
    """The scene, cut short by the first failure of any process."""

    async def stop_at_failure() -> None:
        await world.has_failed.wait()
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop_at_failure)
        try:
            with trio.fail_after(VIRTUAL_PATIENCE_S):
                await PLAYS[scenario.play](world, scenario)
        except Exception as error:
            world.fail(error, "the run")
        nursery.cancel_scope.cancel()
