"""Processes and machines that die.

One victim at a time, so that with two copies there is always one: it dies by SIGKILL or by loss of
power, either at a moment in time, or in the middle of what it does: at one of its next disk or
engine operations, steps of a task, or fault points (`doom.py`). It comes back after a while. `all`
is every machine at once: only what is on stable storage is left of the cluster. `frozen` is a
metadata server that stands still until its clients have given it up, while another one takes its
place; then it goes on (I7).

A dead client's last packets may still be on their way; its successor starts when they have arrived
or are lost, since until then nobody can say which of its changes will be there.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Literal

import trio

from dfs.limits import CALL_TIMEOUT_S, KEEP_ALIVE_S
from tests.simulation.doom import MOMENTS
from tests.simulation.options import FaultOptions

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.world import Machine

ARMED_CHANCE = 0.5
ARMED_PATIENCE_S = 1.0
DOWN_S_MAX = 1.5
GIVEN_UP_S = KEEP_ALIVE_S + CALL_TIMEOUT_S + 1.0
"""Silence after which everyone has left a server."""


class ProcessFaultOptions(FaultOptions):
    """The table `faults.processes`."""

    victims: tuple[Literal["meta", "chunk", "client", "all", "frozen"], ...] = (
        "meta",
        "chunk",
        "client",
        "all",
    )
    """Who dies: one at a time, but `all` is every machine at once."""


async def kill_processes(cluster: Cluster, options: ProcessFaultOptions) -> None:
    """Kill and restart at random until cancelled; then everything that died may still be dead."""
    chooser = random.Random(f"{cluster.world.seed}/process faults")
    while True:
        await cluster.wait_for_fault(chooser, options.every_s)
        kind = chooser.choice(options.victims)
        if kind == "all":
            await _power_cut_everywhere(cluster, chooser)
        elif kind == "frozen":
            await _freeze(cluster, chooser)
        else:
            await _strike_one(cluster, chooser.choice(cluster.machines_of(kind)), chooser)


async def _strike_one(cluster: Cluster, machine: Machine, chooser: random.Random) -> None:
    if machine.is_running:
        await strike(machine, chooser, is_armed=chooser.random() < ARMED_CHANCE)
        await restart(cluster, machine, chooser)


async def strike(machine: Machine, chooser: random.Random, *, is_armed: bool) -> None:
    """Let a machine's process die, now or (armed) in the middle of what it does next."""
    is_power_cut = chooser.random() < 0.5
    if is_armed:
        await _die_within(machine, chooser, is_power_cut=is_power_cut)
    elif is_power_cut:
        machine.cut_power()
    else:
        machine.kill()


async def _die_within(machine: Machine, chooser: random.Random, *, is_power_cut: bool) -> None:
    """Die in the middle of what it does, or after a while if it does nothing."""
    process = machine.process
    assert process is not None
    moment = chooser.choice(list(MOMENTS))
    machine.arm(moment, chooser.randint(1, MOMENTS[moment]), is_power_cut=is_power_cut)
    try:
        with trio.move_on_after(ARMED_PATIENCE_S):
            await process.ended.wait()
    finally:
        machine.kill()


async def restart(cluster: Cluster, machine: Machine, chooser: random.Random) -> None:
    """Start a new process on a machine whose process died, after a while."""
    await trio.sleep(chooser.uniform(0, DOWN_S_MAX))
    if machine in cluster.clients:
        await cluster.restart_client(machine)
    else:
        machine.start()


async def _freeze(cluster: Cluster, chooser: random.Random) -> None:
    """Another metadata server takes over, then the old one wakes up."""
    if not cluster.meta.is_running:
        return
    frozen = cluster.meta.freeze_and_replace()
    try:
        await trio.sleep(chooser.uniform(GIVEN_UP_S, 2 * GIVEN_UP_S))
    finally:
        frozen.thaw()


async def _power_cut_everywhere(cluster: Cluster, chooser: random.Random) -> None:
    """All machines lose power at one moment, and come back one by one."""
    await power_cut_all(cluster)
    machines = [*cluster.servers, *cluster.clients]
    chooser.shuffle(machines)
    for machine in machines:
        await trio.sleep(chooser.uniform(0, 1))
        machine.start()


async def power_cut_all(cluster: Cluster) -> None:
    """All machines lose power at one moment."""
    cluster.world.trace.note("the power fails everywhere", who="world")
    for machine in [*cluster.servers, *cluster.clients]:
        machine.cut_power()
    await trio.lowlevel.checkpoint()
