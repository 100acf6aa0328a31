"""A cluster of real processes, each on a host of its own: one metadata server, three chunk servers,
two mounts. The first chunk server's disk is a small one, if there are loop devices."""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from dfs.background import dfs_command
from tests.chaos.loop_disk import LoopDisk
from tests.chaos.mount import Mount
from tests.chaos.network import Host, build_network
from tests.chaos.part import Part, dfs_part
from tests.simulation.world import Violation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path
    from subprocess import CompletedProcess

    from tests.chaos.spawner import Spawner

CHUNK_SERVERS = 3
MOUNTS = 2
SERVERS_PATIENCE_S = 60.0
META_ADDRESS = "10.213.0.1:7400"


class Cluster:
    """All parts. `start` needs a nursery that lives as long as the cluster."""

    def __init__(self, spawner: Spawner, top: Path, log_directory: Path) -> None:
        self._spawner = spawner
        self.top = top
        self.log_directory = log_directory
        hosts = [Host(spawner, "meta", 1)]
        hosts += [Host(spawner, f"chunk-{number}", 11 + number) for number in range(CHUNK_SERVERS)]
        hosts += [Host(spawner, f"mount-{number}", 21 + number) for number in range(MOUNTS)]
        build_network(spawner, hosts)
        self.small_disk = LoopDisk(spawner, top / "disk", self.chunk_directory(0))
        self.meta = self._meta(hosts[0])
        self.chunks = [self._chunk(number, host) for number, host in enumerate(hosts[1:-MOUNTS])]
        self.mounts = [
            Mount(spawner, host, META_ADDRESS, top / host.name, log_directory)
            for host in hosts[-MOUNTS:]
        ]

    def chunk_directory(self, number: int) -> Path:
        return self.top / f"chunk-{number}"

    def _meta(self, host: Host) -> Part:
        module = ["-P", "-m", "tests.chaos.short_sessions"]
        command = [sys.executable, *module, str(self.top / "meta"), META_ADDRESS]
        return Part(self._spawner, host, command, self.log_directory / "meta.log")

    def _chunk(self, number: int, host: Host) -> Part:
        place = ["--data", str(self.chunk_directory(number)), "--meta", META_ADDRESS]
        listen = ["--listen", f"{host.address}:7401"]
        return dfs_part(self._spawner, host, self.log_directory, "chunk", *place, *listen)

    @property
    def parts(self) -> list[Part]:
        return [self.meta, *self.chunks, *(mount.part for mount in self.mounts)]

    async def start(self, nursery: trio.Nursery) -> None:
        """Start everything and watch it. Raises Violation."""
        for part in self.parts:
            nursery.start_soon(part.watch)
        await self.start_servers()
        await self._start_together([mount.start for mount in self.mounts])

    async def start_servers(self) -> None:
        await self.meta.start()
        await self._start_together([chunk.start for chunk in self.chunks])
        await self.wait_servers_up()

    async def _start_together(self, starts: list[Callable[[], Awaitable[None]]]) -> None:
        async with trio.open_nursery() as nursery:
            for start in starts:
                nursery.start_soon(start)

    async def wait_servers_up(self) -> None:
        """Return when the metadata server believes in every chunk server. Raises Violation."""
        up = ["up"] * CHUNK_SERVERS
        await self.wait_servers(
            lambda servers: [each["server"]["state"] for each in servers] == up, "are up"
        )

    async def wait_free_space(self, part: Part, *, has_some: bool) -> None:
        """Return when everybody knows whether this chunk server has room. Raises Violation."""

        def is_known(servers: list[dict[str, Any]]) -> bool:
            [own] = [s for s in servers if s["server"]["address"].startswith(part.host.address)]
            return bool(own["space"] and own["space"]["free_bytes"]) is has_some

        await self.wait_servers(
            is_known, f"know {'room' if has_some else 'no room'} on {part.name}"
        )

    async def wait_servers(self, is_so: Callable[[list[dict[str, Any]]], bool], what: str) -> None:
        with trio.move_on_after(SERVERS_PATIENCE_S):
            while True:
                status = await self.dfs("status", META_ADDRESS, "--json")
                if status.stdout and is_so(json.loads(status.stdout)["status"]["servers"]):
                    return
                await trio.sleep(0.2)
        raise Violation(f"after {SERVERS_PATIENCE_S:g} s it is not so that servers {what}")

    async def fsck(self, *arguments: str) -> dict[str, Any]:
        """The report of `dfs fsck`, which must find no error. Raises Violation."""
        done = await self.dfs("fsck", META_ADDRESS, "--json", *arguments)
        (self.log_directory / "fsck.json").write_text(done.stdout)
        if done.returncode != 0:
            raise Violation(f"dfs fsck {' '.join(arguments)}: {done.stdout[-3000:]}{done.stderr}")
        report: dict[str, Any] = json.loads(done.stdout)["report"]
        return report

    async def dfs(self, *arguments: str) -> CompletedProcess[str]:
        """`dfs ARGUMENTS` on the runner's own host, whatever its status."""
        run = partial(self._spawner.run, dfs_command(*arguments))
        return await trio.to_thread.run_sync(run, abandon_on_cancel=True)

    async def destroy(self) -> None:
        """Kill everything and let go of what hangs; the namespaces take down the rest."""
        for mount in self.mounts:
            mount.abort()
        for part in self.parts:
            await part.end_at_once()
        self.small_disk.detach()
