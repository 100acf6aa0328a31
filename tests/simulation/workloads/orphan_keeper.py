"""Tasks of all clients hold files open whose names they, or others, take away, and go on using
them: over broken links, pauses of their clients, and restarts of the metadata server.

A file lives as long as it has a name or someone has it open. Meanwhile its name leads nowhere, or
to another file that anybody may have made anew. While a file has a name its content stays the same;
when it has none, who alone has it open writes, cuts and reads it.

Catches files that are taken apart though they are open (I6), names that lead to a file that has
lost them (I4), numbers of inodes that are given twice, and orphans that nobody removes in the end
(I6, by the checks of every run).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.simulation.options import Count, WorkloadOptions
from tests.simulation.workloads.held_file import HeldFile, HeldFiles, new_data
from tests.simulation.workloads.observe import ROOT_USER, exists
from tests.simulation.workloads.places import (
    FILE_MODE,
    NEW_FILE,
    directory_at,
    errno_of,
    read_at,
)
from tests.simulation.workloads.shared_names import SharedNames
from tests.simulation.workloads.workload import Stepper
from tests.simulation.world import Violation

if TYPE_CHECKING:
    from dfs.client.client import Client
    from dfs.types import InodeId
    from tests.simulation.workloads.workload import Site

PLACE = b"orphans"
NAMES = (b"a", b"b", b"c", b"d")


class OrphanKeeperOptions(WorkloadOptions):
    """The table `workloads.orphan_keeper`."""

    held_max: Count = 4
    """Files that a task holds open at once."""


def make_orphan_keepers(site: Site, options: OrphanKeeperOptions) -> list[OrphanKeeper]:
    """One client's; all use the same names."""
    shared = site.shared.get("orphans", lambda: SharedNames(NAMES), lambda _shared: "")
    numbers = site.numbers(options.per_client)
    return [OrphanKeeper(site, number, shared, options) for number in numbers]


class OrphanKeeper(Stepper):
    """One task. Outlives the clients that it works through."""

    is_observable = True

    def __init__(
        self, site: Site, number: int, shared: SharedNames, options: OrphanKeeperOptions
    ) -> None:
        name = f"o{number}"
        super().__init__(site, name, options.pause_s)
        self._shared = shared
        self._held_max = options.held_max
        self._held = HeldFiles(name, self._random, shared, self._note)
        self._new_name = b"new %d" % number
        self._directory: InodeId

    async def run(self, client: Client) -> None:
        """Work until told to stop; then nothing is open."""
        self._directory = await directory_at(client, PLACE)
        await self._recover(client)
        while not self.is_stopping:
            await self._think()
            await self._act(client)
            self._count_step()
        while len(self._held):
            await self._held.release_one(client)

    async def _recover(self, client: Client) -> None:
        """What was open went with the last client; what it did to names is to be found out."""
        self._held.forget()
        await errno_of(client.unlink(self._directory, self._new_name, ROOT_USER))
        for name in self._shared.claimed_by(self.name):
            inode = await exists(client, self._directory, name)
            content = await read_at(client, self._directory, name)
            problem = self._shared.names[name].kept.check(content)
            if problem:
                raise Violation(f"{self.name} after a crash: {name!r}: {problem} (I3)")
            self._shared.settle(name, inode.ino if inode else None, content)
            self._shared.free(name)

    async def _act(self, client: Client) -> None:
        action = self._random.choices(("name", "nameless", "use", "look"), (5, 1, 8, 3))[0]
        if action == "look":
            await self._look(client, self._random.choice(NAMES))
        elif action == "use" and len(self._held):
            await self._held.use_one(client)
        elif len(self._held) >= self._held_max:
            await self._held.release_one(client)
        elif action == "nameless":
            await self._make_nameless(client)
        else:
            await self._change_name(client)

    # ------------------------------------------------------------ names

    async def _change_name(self, client: Client) -> None:
        """Open what has the name, take it away, or make it lead to a new file."""
        name = self._shared.claim(self.name, self._random)
        if name is None:
            return
        shared = self._shared.names[name]
        content, chance = shared.kept.content, self._random.random()
        if content is None:
            await self._make(client, name)
        elif chance < 0.4:
            assert shared.ino is not None
            handle = await client.open(shared.ino, os.O_RDWR, ROOT_USER)
            self._held.add(HeldFile(handle, content), f"opens {name!r}")
        elif chance < 0.7:
            shared.kept.begin(None)
            await client.unlink(self._directory, name, ROOT_USER)
            self._shared.settle(name, None, None)
            self._note(f"{name!r} is gone")
        else:
            await self._replace(client, name)
        self._shared.free(name)

    async def _create(self, client: Client, name: bytes) -> HeldFile:
        """It must be new, whatever else is open."""
        directory = self._directory
        handle, inode = await client.create(directory, name, FILE_MODE, ROOT_USER, flags=NEW_FILE)
        if inode.ino in self._shared.gone or self._shared.is_held(inode.ino):
            raise Violation(f"{self.name}: the new file {name!r} has the number of {inode.ino}")
        return HeldFile(handle, b"")

    async def _make(self, client: Client, name: bytes) -> None:
        """Where nothing is, or where only a file was that is open."""
        data = new_data(self._random)
        self._shared.names[name].kept.begin(b"", data)
        file = await self._create(client, name)
        await file.write(client, 0, data)
        await client.fsync(file.handle)
        self._shared.settle(name, file.ino, data)
        self._held.add(file, f"makes {name!r}")

    async def _replace(self, client: Client, name: bytes) -> None:
        """What was there goes on without a name."""
        data, directory = new_data(self._random), self._directory
        file = await self._create(client, self._new_name)
        await file.write(client, 0, data)
        self._shared.names[name].kept.begin(data)
        await client.rename(directory, self._new_name, directory, name, 0, ROOT_USER)
        self._shared.settle(name, file.ino, data)
        self._held.add(file, f"replaces {name!r}")

    async def _make_nameless(self, client: Client) -> None:
        """As tmpfile(3) does; what was written may not even be flushed."""
        file = await self._create(client, self._new_name)
        await file.write(client, 0, new_data(self._random))
        await client.unlink(self._directory, self._new_name, ROOT_USER)
        self._shared.gone.add(file.ino)
        self._held.add(file, "a file that has no name")

    # ------------------------------------------------------------ what the names lead to

    async def _look(self, client: Client, name: bytes) -> None:
        """A name that others change leads nowhere, or to the newest file that got it."""
        gone, kept = set(self._shared.gone), self._shared.names[name].kept
        change_count = kept.change_count
        inode = await exists(client, self._directory, name)
        if inode is not None and inode.ino in gone:
            raise Violation(f"{self.name}: {name!r} leads to {inode.ino}, which lost it (I4)")
        content = await read_at(client, self._directory, name)
        if kept.change_count == change_count:
            problem = kept.check(content) or self._shared.check(name, inode.ino if inode else None)
            if problem:
                raise Violation(f"{self.name}: {name!r}: {problem} (I4)")

    async def check_seen_by(self, client: Client) -> None:
        """Another client finds the same files by the names."""
        self._directory = await directory_at(client, PLACE)
        for name in NAMES:
            await self._look(client, name)
