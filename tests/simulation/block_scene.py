"""A chunk server by itself: it dies again and again while blocks are put, deleted and compacted,
and sometimes its index is lost with it. What was answered must hold through all of that (I3).
"""

from __future__ import annotations

from functools import partial
from itertools import count
from typing import TYPE_CHECKING

import trio

from dfs.core.messages import ChunkReply, ListBlocks, ListBlocksReply
from dfs.rpc.client import RpcClient
from tests.simulation.cluster import Cluster
from tests.simulation.registry import FAULTS
from tests.simulation.workloads.block_user import BlockUser
from tests.simulation.world import Violation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.simulation.process import Process
    from tests.simulation.scenarios import Scenario
    from tests.simulation.world import World

USERS = 3
PAUSE_S = 0.05
"""Mean time that a user thinks between two requests."""


async def play_blocks(world: World, scenario: Scenario) -> None:
    """One run. Raises Violation."""
    cluster = Cluster(world, scenario)
    cluster.meta.start()
    orders = count(1)
    limit = scenario.step_limit
    users = [BlockUser(world, f"user{number}", orders, limit) for number in range(USERS)]
    await cluster.observe(partial(_run, cluster=cluster, users=users))
    world.trace.note(f"clean: {sum(user.steps_done for user in users)} steps", who="world")


async def _run(process: Process, cluster: Cluster, users: Sequence[BlockUser]) -> None:
    [chunk] = cluster.chunks
    chunk.start()
    address = f"{chunk.host}:7100"
    async with RpcClient[ChunkReply](process.environment, address, ChunkReply) as rpc:
        end_s = trio.current_time() + cluster.scenario.duration_s
        async with trio.open_nursery() as killing:
            for name, options in cluster.scenario.faults.items():
                killing.start_soon(FAULTS[name].strike, cluster, options)
            async with trio.open_nursery() as using:
                for user in users:
                    using.start_soon(user.run, rpc, PAUSE_S, end_s)
            killing.cancel_scope.cancel()
    if not chunk.is_running:
        chunk.start()
    async with RpcClient[ChunkReply](process.environment, address, ChunkReply) as rpc:
        for user in users:
            await user.check_all(rpc)
        reply, _ = await rpc.call(ListBlocks())
    assert isinstance(reply, ListBlocksReply)
    if list(reply.block_ids) != sorted(each for user in users for each in user.good_ids):
        raise Violation("the inventory lists other blocks than are there")
