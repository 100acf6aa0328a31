"""Wall clocks that are wrong, and that jump while processes run.

Time stamps may be anything then; nothing else may depend on a wall clock (`Environment.now_ns`).
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from dfs.limits import NS_PER_S
from tests.simulation.options import FaultOptions

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster


class ClockOptions(FaultOptions):
    """The table `faults.clocks`."""

    offset_s_max: float = 86_400.0
    """How far from the right time a clock may be, in either direction."""


async def jump_clocks(cluster: Cluster, options: ClockOptions) -> None:
    """Set one machine's clock wrong at a time, until cancelled. They stay wrong."""
    chooser = random.Random(f"{cluster.world.seed}/clocks")
    while True:
        machine = chooser.choice([*cluster.servers, *cluster.clients])
        offset_s = chooser.uniform(-options.offset_s_max, options.offset_s_max)
        machine.set_clock(round(offset_s) * NS_PER_S)
        cluster.world.trace.note(f"its clock is {offset_s:.0f} s off", who=machine.host)
        await cluster.wait_for_fault(chooser, options.every_s)
