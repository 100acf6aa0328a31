"""The only chunk server dies again and again, and now and then its index is lost with it."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import trio

from tests.simulation.faults.processes import strike
from tests.simulation.options import FaultOptions, Share

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster

ARMED_CHANCE = 0.5
DOWN_S_MAX = 1.0
AGAIN_S_MAX = 0.4


class SingleServerOptions(FaultOptions):
    """The table `faults.single_server`."""

    index_lost_chance: Share = 0.2
    power_lost_again_chance: Share = 0.3
    """Soon after a restart: what recovery found in the page cache only is gone then."""


async def kill_single_server(cluster: Cluster, options: SingleServerOptions) -> None:
    """Kill and restart at random until cancelled; then it may still be dead."""
    [chunk] = cluster.chunks
    chooser = random.Random(f"{cluster.world.seed}/faults")
    while True:
        await cluster.wait_for_fault(chooser, options.every_s)
        await strike(chunk, chooser, is_armed=chooser.random() < ARMED_CHANCE)
        await trio.sleep(chooser.uniform(0, DOWN_S_MAX))
        if chooser.random() < options.index_lost_chance:
            chunk.lose_storage()
        chunk.start()
        if chooser.random() < options.power_lost_again_chance:
            await trio.sleep(chooser.uniform(0, AGAIN_S_MAX))
            chunk.cut_power()
            chunk.start()
