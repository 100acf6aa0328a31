"""Links that break, and parts of the network that cannot reach each other.

Lost connections come one at a time, with a random part of what was on its way. A partition parts a
client from the metadata server, a chunk server from everybody, or any two. Where they last less
than a session lives, nobody may notice more than a delay.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import trio

from tests.simulation.options import FaultOptions

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster

LOSS_CHANCE = 0.6
ONE_WAY_CHANCE = 0.3


class NetworkFaultOptions(FaultOptions):
    """The table `faults.network`."""

    partition_s_max: float = 8.0


async def break_links(cluster: Cluster, options: NetworkFaultOptions) -> None:
    """Break and part at random until cancelled. Heals in the end."""
    chooser = random.Random(f"{cluster.world.seed}/network faults")
    network = cluster.world.network
    try:
        while True:
            await cluster.wait_for_fault(chooser, options.every_s)
            if chooser.random() < LOSS_CHANCE:
                network.break_connection(chooser)
                continue
            _part(cluster, chooser)
            await trio.sleep(chooser.uniform(0, options.partition_s_max))
            network.heal()
    finally:
        network.heal()


def _part(cluster: Cluster, chooser: random.Random) -> None:
    hosts = [machine.host for machine in [*cluster.servers, *cluster.clients]]
    is_one_way = chooser.random() < ONE_WAY_CHANCE
    kind = chooser.choice(("chunk server alone", "client from meta", "any two"))
    if kind == "chunk server alone":
        alone = chooser.choice(cluster.chunks).host
        for other in hosts:
            if other != alone:
                cluster.world.network.cut(alone, other, is_one_way=is_one_way)
        return
    pair = chooser.sample(hosts, 2)
    if kind == "client from meta":
        pair = [chooser.choice(cluster.clients).host, cluster.meta.host]
        chooser.shuffle(pair)
    cluster.world.network.cut(*pair, is_one_way=is_one_way)
