"""Links that work badly: slow ones, half open ones, and those on which requests linger.

A slow link takes up to `latency_s_max` per piece for a while. A half-open connection loses all that
is sent, and tells neither end: only silence says so. Requests linger when their client gives its
link up while TCP still sends again, later and later, what was lost on the way: they arrive when the
client has gone on over another link. None of it may cost more than a delay.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import trio

from tests.simulation.options import FaultOptions, Share

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.network import SimNetwork


class LinkOptions(FaultOptions):
    """The table `faults.links`."""

    half_open_chance: Share = 0.4
    lingering_chance: Share = 0.0
    """Of the others."""
    linger_s_max: float = 4.0
    """How late requests arrive on a link that their client gives up."""
    latency_s_max: float = 0.5
    slow_s_max: float = 8.0
    """How long a link stays slow."""


async def spoil_links(cluster: Cluster, options: LinkOptions) -> None:
    """Spoil one link at a time until cancelled; then all have their usual speed."""
    chooser = random.Random(f"{cluster.world.seed}/links")
    network = cluster.world.network
    while True:
        await cluster.wait_for_fault(chooser, options.every_s)
        if chooser.random() < options.half_open_chance:
            network.lose_silently(chooser)
            continue
        if options.lingering_chance and chooser.random() < options.lingering_chance:
            await _let_linger(network, chooser, chooser.uniform(0, options.linger_s_max))
            continue
        hosts = [machine.host for machine in [*cluster.servers, *cluster.clients]]
        host, other = chooser.sample(hosts, 2)
        network.slow(host, other, chooser.uniform(0, options.latency_s_max))
        try:
            await trio.sleep(chooser.uniform(0, options.slow_s_max))
        finally:
            network.slow(host, other, None)


async def _let_linger(network: SimNetwork, chooser: random.Random, seconds: float) -> None:
    """Delay what one client sends, and let it give the link up before any of it arrives."""
    connection = network.linger(chooser, seconds)
    if connection is not None:
        await trio.sleep(chooser.uniform(0, seconds))
        network.give_up(connection)
