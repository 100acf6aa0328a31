"""Reads, writes and syncs that fail, on the first chunk server's disk only; the others are good."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from tests.simulation.options import Options, Share

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster


class DiskErrorOptions(Options):
    """The table `faults.disk_errors`."""

    chance: Share
    """Of each read, write and sync."""


async def let_disk_fail(cluster: Cluster, options: DiskErrorOptions) -> None:
    """Let the disk fail until cancelled."""
    machine = cluster.chunks[0]
    machine.has_bad_disk = True
    machine.platter.error_chance = options.chance
    try:
        await trio.sleep_forever()
    finally:
        machine.platter.error_chance = 0.0
