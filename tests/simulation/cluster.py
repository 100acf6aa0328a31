"""The cluster of one run: the product's own servers and clients on simulated machines."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import trio

from dfs.chunk.server import run_chunk_server
from dfs.client.client import open_client
from dfs.config import ChunkConfig, ClientConfig, MetaConfig
from dfs.core.messages import GetStatus, MetaReply, StatusReply
from dfs.errors import DfsError
from dfs.meta.server import run_meta_server
from dfs.rpc.client import RpcClient
from dfs.types import ServerState
from tests.simulation.disk import SimDisk
from tests.simulation.engine import SimEngine

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

    from dfs.client.client import Client
    from tests.simulation.process import Process
    from tests.simulation.scenarios import Scenario
    from tests.simulation.world import Machine, World

BLOCK_BYTES = 64 * 1024
"""The smallest, so that small files have several blocks."""
RESERVE_BYTES = 64 * 1024
META_ADDRESS = "meta:7000"
SETTLE_S = 3.0
"""Longer than a server takes for a request that it has received."""
READY_PATIENCE_S = 60.0


class Cluster:
    """Machines by role. The servers are started by `start`, clients by whoever needs them."""

    def __init__(self, world: World, scenario: Scenario) -> None:
        self.world = world
        self.scenario = scenario
        self.settings = scenario.cluster
        self._faults_left = math.inf if scenario.fault_limit is None else scenario.fault_limit
        self.meta = world.add("meta", self._run_meta)
        self.chunks = [
            world.add(f"chunk-{number}", self._run_chunk)
            for number in range(self.settings.chunk_servers)
        ]
        self.clients: list[Machine] = []
        if self.settings.small_disk_bytes:
            self.chunks[0].platter.capacity_bytes = self.settings.small_disk_bytes

    @property
    def servers(self) -> list[Machine]:
        return [self.meta, *self.chunks]

    def machines_of(self, role: str) -> list[Machine]:
        """Those that may become victims of a fault: meta, chunk or client."""
        return {"meta": [self.meta], "chunk": self.chunks, "client": self.clients}[role]

    @property
    def min_copies(self) -> int:
        """As the metadata server understands a volume that does not say."""
        return self.settings.min_copies or max(1, self.settings.copies - 1)

    def add_client(self, host: str, work: Callable[[Client], Awaitable[None]]) -> Machine:
        """A machine whose process is one client that does `work`, and ends with it."""

        async def main(process: Process) -> None:
            await with_client(process, work, is_synchronous=self.scenario.is_synchronous)

        machine = self.world.add(host, main)
        self.clients.append(machine)
        return machine

    async def start(self) -> None:
        """Start all servers and return when the metadata server believes in all of them."""
        for machine in self.servers:
            if not machine.is_running:
                machine.start()
        await self.wait_ready()

    async def restart_client(self, machine: Machine) -> None:
        """A new client, once nothing that the dead one sent can still take effect."""
        process = machine.process
        assert process is not None
        await self.world.network.wait_drained(process)
        await trio.sleep(SETTLE_S)
        machine.start()

    async def wait_for_fault(self, chooser: random.Random, every_s: float) -> None:
        """Return when the next fault shall strike; never, once there were as many as may be."""
        await trio.sleep(chooser.expovariate(1 / every_s))
        if not self._faults_left:
            await trio.sleep_forever()
        self._faults_left -= 1

    async def wait_ready(self) -> None:
        with trio.fail_after(READY_PATIENCE_S):
            await self.observe(self._wait_all_up)

    async def observe(self, main: Callable[[Process], Awaitable[None]]) -> None:
        """Run `main` as a process on a machine of its own, and wait for its end."""
        host = f"observer-{len(self.world.machines)}"
        machine = self.world.add(host, main)
        await machine.start().ended.wait()

    async def _wait_all_up(self, process: Process) -> None:
        async with RpcClient[MetaReply](process.environment, META_ADDRESS, MetaReply) as rpc:
            while True:
                try:
                    reply, _ = await rpc.call(GetStatus())
                except DfsError:
                    await trio.sleep(0.2)
                    continue
                assert isinstance(reply, StatusReply)
                states = [server.state for server in reply.cluster_map.servers]
                if states.count(ServerState.UP) == len(self.chunks):
                    return
                await trio.sleep(0.2)

    async def _run_meta(self, process: Process) -> None:
        config = MetaConfig(
            listen=META_ADDRESS,
            block_bytes=BLOCK_BYTES,
            copies=self.settings.copies,
            min_copies=self.settings.min_copies,
            garbage_grace_s=self.settings.garbage_grace_s,
            session_ttl_s=self.settings.session_ttl_s,
            cached_records_max=self.settings.cached_records_max,
        )
        engine = SimEngine(self.meta.storage, process)
        await run_meta_server(config, process.environment, engine=engine)

    async def _run_chunk(self, process: Process) -> None:
        machine = self.world.machines[process.host]
        config = ChunkConfig(
            data=f"{process.host}-data",
            meta=(META_ADDRESS,),
            listen=f"{process.host}:7100",
            segment_bytes=self.settings.segment_bytes,
            reserve_bytes=RESERVE_BYTES,
        )
        await run_chunk_server(
            config,
            process.environment,
            disk=SimDisk.of_process(machine.platter, process),
            index_engine=SimEngine(machine.storage, process),
        )


async def with_client(
    process: Process, work: Callable[[Client], Awaitable[None]], *, is_synchronous: bool = True
) -> None:
    """Do `work` with a client that ends cleanly."""
    config = ClientConfig(
        name=process.name,
        connect_patience_s=READY_PATIENCE_S,
        is_synchronous=is_synchronous,
    )
    async with open_client(process.environment, [META_ADDRESS], config=config) as client:
        await work(client)
