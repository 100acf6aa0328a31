"""Processes that stand still for a while and then go on, as after SIGSTOP, a suspended machine, or
a long wait for memory.

Nothing of the process runs meanwhile: its timers and everything that arrived wait until it thaws,
and it believes that no time has passed. Where pauses are shorter than a session lives, nobody may
notice more than a delay; a client that sleeps past its session finds it gone (I7).
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Literal

import trio

from tests.simulation.options import FaultOptions

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster


class PauseOptions(FaultOptions):
    """The table `faults.pauses`."""

    pause_s_max: float = 8.0
    victims: tuple[Literal["meta", "chunk", "client"], ...] = ("meta", "chunk", "client")


async def pause_processes(cluster: Cluster, options: PauseOptions) -> None:
    """Freeze one process at a time until cancelled; then none is frozen."""
    chooser = random.Random(f"{cluster.world.seed}/pauses")
    while True:
        await cluster.wait_for_fault(chooser, options.every_s)
        machine = chooser.choice(cluster.machines_of(chooser.choice(options.victims)))
        process = machine.process
        if process is None or not machine.is_running or process.is_frozen:
            continue
        process.freeze()
        try:
            await trio.sleep(chooser.uniform(0, options.pause_s_max))
        finally:
            process.thaw()
