"""The course of every run: load under faults, then mending, then everything is checked.

| act | what happens |
|---|---|
| load | writers work, each in its directory; what the scenario names dies and breaks |
| mended | faults end, the dead come back, writers close what they have open |
| others look | a client that cached nothing finds what every writer's model says (I4) |
| power cut | every machine loses power at once: only stable storage is left (I3) |
| checked | the same again, then fsck and the checkers over records and blocks |
"""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING

import trio

from dfs.errors import DfsError
from dfs.fsck.check import check_cluster
from tests.simulation.checkers.block_copies import check_block_copies
from tests.simulation.checkers.durable_answers import DurableAnswersChecker
from tests.simulation.checkers.exactly_once import ExactlyOnceChecker
from tests.simulation.checkers.fencing import FencingChecker
from tests.simulation.checkers.records import check_records
from tests.simulation.cluster import META_ADDRESS, Cluster, with_client
from tests.simulation.faults.processes import power_cut_all
from tests.simulation.registry import FAULTS, WORKLOADS
from tests.simulation.workloads.workload import Shared, Site
from tests.simulation.world import Violation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dfs.client.client import Client
    from tests.simulation.process import Process
    from tests.simulation.scenarios import Scenario
    from tests.simulation.workloads.workload import Workload
    from tests.simulation.world import World

FSCK_CHANCE = 0.3
STOP_PATIENCE_S = 180.0
SESSIONS_OVER_S = 100.0
"""After this long without clients every session has expired and all garbage is collected."""


async def play_files(world: World, scenario: Scenario) -> None:
    """One run. Raises Violation and whatever else shows that something is wrong."""
    cluster = Cluster(world, scenario)
    _watch(cluster)
    await cluster.start()
    shared = Shared()
    workloads = _add_clients(cluster, shared)
    await _load(cluster, workloads)
    await _mend(cluster, workloads)
    await cluster.observe(partial(_look, workloads=workloads))
    await power_cut_all(cluster)
    await cluster.start()
    await cluster.observe(partial(_look, workloads=workloads))
    problem = shared.problem()
    if problem:
        raise Violation(problem)
    await trio.sleep(SESSIONS_OVER_S)
    await cluster.observe(partial(_check, cluster=cluster))
    world.trace.note(f"clean: {sum(each.steps_done for each in workloads)} steps", who="world")


def _watch(cluster: Cluster) -> None:
    """Attach what looks at every packet and every batch."""
    world = cluster.world

    def report(problem: str) -> None:
        world.fail(Violation(problem), "watching the run")

    fencing, exactly_once = FencingChecker(report), ExactlyOnceChecker(report)
    answers = DurableAnswersChecker(report)
    cluster.meta.storage.observers += [
        fencing.observe,
        exactly_once.see_batch,
        answers.see_batch,
    ]
    world.network.observers += [exactly_once.see_packet, answers.see_packet]


def _add_clients(cluster: Cluster, shared: Shared) -> list[Workload]:
    """Clients, each with its own objects of every workload of the scenario. Returns all objects."""
    workloads: list[Workload] = []
    scenario = cluster.scenario
    for number in range(scenario.clients):
        site = Site(cluster.world, scenario, number, shared)
        own = [
            workload
            for name, options in scenario.workloads.items()
            for workload in WORKLOADS[name].make(site, options)
        ]
        workloads += own
        cluster.add_client(f"client-{number}", partial(_work, workloads=own))
    names = [each.name for each in workloads]
    assert len(set(names)) == len(names), f"one name, one workload: {names}"
    return workloads


async def _work(client: Client, workloads: Sequence[Workload]) -> None:
    async with trio.open_nursery() as nursery:
        for workload in workloads:
            nursery.start_soon(workload.run, client)


async def _load(cluster: Cluster, workloads: Sequence[Workload]) -> None:
    """Faults for the length of the scenario, and now and then a look from the outside."""
    for machine in cluster.clients:
        machine.start()
    with trio.move_on_after(cluster.scenario.duration_s):
        async with trio.open_nursery() as nursery:
            for name, options in cluster.scenario.faults.items():
                nursery.start_soon(FAULTS[name].strike, cluster, options)
            nursery.start_soon(_look_around, cluster, workloads)


async def _look_around(cluster: Cluster, workloads: Sequence[Workload]) -> None:
    """Look at what one workload does from outside, or at all with fsck, again and again."""
    chooser = random.Random(f"{cluster.world.seed}/looks")
    while True:
        await trio.sleep(chooser.expovariate(1 / cluster.scenario.look_every_s))
        observable = [each for each in workloads if each.is_observable]
        if not observable or chooser.random() < FSCK_CHANCE:
            await cluster.observe(_check_live)
        else:
            await cluster.observe(partial(_look, workloads=[chooser.choice(observable)]))


async def _check_live(process: Process) -> None:
    """fsck while everyone works: whatever dies meanwhile, the records of any moment are sound."""
    try:
        report = await check_cluster(process.environment, [META_ADDRESS])
    except DfsError as error:
        process.note(f"fsck gives up: {error}")
        return
    errors = [each for each in report.errors if not (report.unreachable and "I1" in each.check)]
    if errors:
        raise Violation(f"fsck under load: {errors[:5]}")
    process.note(f"fsck: {report.inodes} inodes, {report.blocks} blocks are sound")


async def _mend(cluster: Cluster, workloads: Sequence[Workload]) -> None:
    """Everything runs again; workloads end what they do, and their clients with them."""
    cluster.world.trace.note("faults are over", who="world")
    for machine in cluster.servers:
        if not machine.is_running:
            machine.start()
    for machine in cluster.clients:
        if not machine.is_running:
            await cluster.restart_client(machine)
    for workload in workloads:
        workload.is_stopping = True
    with trio.fail_after(STOP_PATIENCE_S):
        for machine in cluster.clients:
            assert machine.process is not None
            await machine.process.ended.wait()
    await cluster.wait_ready()


async def _look(process: Process, workloads: Sequence[Workload]) -> None:
    async def look(client: Client) -> None:
        for workload in workloads:
            await workload.check_seen_by(client)

    await with_client(process, look)


async def _check(process: Process, cluster: Cluster) -> None:
    """Records, blocks and fsck, when nobody has used the cluster for long."""
    rows = cluster.meta.storage.rows()
    problem = check_records(rows, is_idle=True)
    if problem:
        raise Violation(f"records: {problem}")
    addresses = [f"{machine.host}:7100" for machine in cluster.chunks]
    environment = process.environment
    if "rot" in cluster.scenario.faults:
        report = await check_cluster(environment, [META_ADDRESS], verify_data=True, repair=True)
        process.note(f"repaired: {report.repaired}")
    problem = await check_block_copies(environment, addresses, rows, cluster.min_copies)
    if problem:
        raise Violation(f"blocks: {problem}")
    report = await check_cluster(environment, [META_ADDRESS], verify_data=True)
    if not report.is_clean:
        raise Violation(f"fsck: {report.problems[:5]}")
