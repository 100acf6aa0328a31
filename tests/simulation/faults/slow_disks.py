"""Disks that take long for everything, as one does that is about to fail, or that others use too.

One machine at a time: a chunk server's segments and index, or the metadata server's engine. Whoever
waits for it may be late, and nothing else.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import trio

from tests.simulation.options import FaultOptions

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster


class SlowDiskOptions(FaultOptions):
    """The table `faults.slow_disks`."""

    operation_s_max: float = 1.0
    """Mean time that an operation takes then."""
    slow_s_max: float = 6.0


async def slow_disks(cluster: Cluster, options: SlowDiskOptions) -> None:
    """Slow one disk down at a time until cancelled; then none is slow."""
    chooser = random.Random(f"{cluster.world.seed}/slow disks")
    while True:
        await cluster.wait_for_fault(chooser, options.every_s)
        machine = chooser.choice(cluster.servers)
        operation_s = chooser.uniform(0.01, options.operation_s_max)
        cluster.world.trace.note(f"its disk is slow: {operation_s:.3f} s", who=machine.host)
        machine.slow_disk(operation_s)
        try:
            await trio.sleep(chooser.uniform(0, options.slow_s_max))
        finally:
            machine.slow_disk(0)
