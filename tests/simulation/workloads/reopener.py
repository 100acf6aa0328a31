"""Closes files and opens them again at once, then takes their last name away, and uses them on.

The release of the first opening may still be on its way when the second one holds the inode: over
a link that is lost, or behind a commit. It must not let go of the second hold: the file would be
taken apart while it is open (I6). While it has no name its bytes and its link count are checked.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import trio

from dfs.client.op_stream import RELEASE_IDLE_S
from dfs.errors import FsError
from tests.simulation.checkers.verified_reads import check_read
from tests.simulation.options import Positive, WorkloadOptions
from tests.simulation.workloads.observe import ROOT_USER, exists
from tests.simulation.workloads.places import directory_at, open_at
from tests.simulation.workloads.workload import Stepper
from tests.simulation.world import Violation

if TYPE_CHECKING:
    from dfs.client.client import Client
    from dfs.client.handles import FileHandle
    from dfs.types import InodeId
    from tests.simulation.workloads.workload import Site

PLACE = b"reopened"
BYTES_MAX = 9000


class ReopenerOptions(WorkloadOptions):
    """The table `workloads.reopener`."""

    nameless_s: Positive = 1.0
    """Mean time for which a file is open without a name."""


def make_reopeners(site: Site, options: ReopenerOptions) -> list[Reopener]:
    """One client's, each with a name of its own."""
    return [Reopener(site, number, options) for number in site.numbers(options.per_client)]


class Reopener(Stepper):
    """One task. Outlives the clients that it works through."""

    def __init__(self, site: Site, number: int, options: ReopenerOptions) -> None:
        super().__init__(site, f"p{number}", options.pause_s)
        self._name = b"file %d" % number
        self._nameless_s = options.nameless_s
        self._directory: InodeId

    async def run(self, client: Client) -> None:
        """Work until told to stop; then the name is gone, and nothing is open."""
        self._directory = await directory_at(client, PLACE)
        if await exists(client, self._directory, self._name) is not None:
            await client.unlink(self._directory, self._name, ROOT_USER)
        while not self.is_stopping:
            await self._think()
            try:
                await self._live_once(client)
            except FsError as error:
                raise Violation(f"{self.name}: {error} (I6)") from error
            self._count_step()

    async def _live_once(self, client: Client) -> None:
        """One file, from its making to its end."""
        content = self._random.randbytes(self._random.randint(1, BYTES_MAX))
        handle = await open_at(client, self._directory, self._name, os.O_RDWR)
        await client.write(handle, 0, content)
        await client.flush(handle)
        for _ in range(self._random.randint(1, 3)):
            handle = await self._open_again(client, handle)
        await client.unlink(self._directory, self._name, ROOT_USER)
        self._note(f"{handle.inode.ino} has no name any more")
        await trio.sleep(self._random.expovariate(1 / self._nameless_s))
        await self._check(client, handle, content)
        await client.release(handle)

    async def _open_again(self, client: Client, handle: FileHandle) -> FileHandle:
        """An op in between takes the release along, or it goes by itself when none comes."""
        ino = handle.inode.ino
        await client.release(handle)
        if self._random.random() < 0.5:
            await client.setattr(ino, ROOT_USER, mode=self._random.choice((0o600, 0o644)))
        else:
            await trio.sleep(self._random.uniform(0.9, 1.3) * RELEASE_IDLE_S)
        return await client.open(ino, os.O_RDWR, ROOT_USER)

    async def _check(self, client: Client, handle: FileHandle, content: bytes) -> None:
        """It is all there, as the server and as this client know it."""
        inode = await client.getattr(handle.inode.ino)
        problem = check_read(content, bytes(await client.read(handle, 0, BYTES_MAX)))
        if problem or inode.nlink:
            problem = problem or f"link count {inode.nlink}"
            raise Violation(f"{self.name}: {handle.inode.ino} without a name: {problem} (I6)")

    async def check_seen_by(self, client: Client) -> None:
        """Nothing is left of what it made."""
        directory = await directory_at(client, PLACE)
        if await exists(client, directory, self._name) is not None:
            raise Violation(f"{self.name}: its name is still there")
