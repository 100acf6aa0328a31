"""Fault points of the product: a process is slow just where one step is done and the next is not.

The seed arms a share of all points for a whole run (`fault_points.py`). With `[faults.processes]`
beside it, processes die there as well (`doom.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from tests.simulation.options import Options, Positive, Share

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster


class PointOptions(Options):
    """The table `faults.points`."""

    armed_chance: Share = 0.3
    """Share of the points that are armed in a run."""
    delay_s: Positive = 0.5
    """Mean time that a process waits at an armed point, when it does."""


async def arm_points(cluster: Cluster, options: PointOptions) -> None:
    """Let armed points strike until cancelled."""
    points = cluster.world.fault_points
    points.begin(armed_chance=options.armed_chance, delay_s=options.delay_s)
    try:
        await trio.sleep_forever()
    finally:
        points.end()
