"""Commits of the metadata server whose outcome nobody tells: written or not, as the seed says.

So it is when the engine is asked over a network and the answer is lost. The server finds out by the
fence what became of its batch (`dfs/meta/shards.py`); nobody else may notice (I3, I7).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from tests.simulation.options import Options, Share

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster


class UnknownOutcomeOptions(Options):
    """The table `faults.unknown_outcomes`."""

    chance: Share
    """Of each commit."""


async def lose_outcomes(cluster: Cluster, options: UnknownOutcomeOptions) -> None:
    """Lose outcomes until cancelled."""
    storage = cluster.meta.storage
    storage.unknown_chance = options.chance
    try:
        await trio.sleep_forever()
    finally:
        storage.unknown_chance = 0.0
