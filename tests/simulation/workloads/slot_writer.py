"""Several writers, through several clients, share one file: each owns some of its slots.

Slots are ranges that lie next to each other, across the borders of blocks and of what may be
inline. So commits of different clients meet in one block's span, and reads meet commits of others;
a writer's own bytes must come through all of that. Each owner reads back exactly what it wrote
(I2); after a crash every byte is a synced one or one written since (I3).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dfs.types import ROOT
from tests.simulation.checkers.synced_bytes import check_synced_bytes
from tests.simulation.checkers.verified_reads import check_read
from tests.simulation.options import WorkloadOptions
from tests.simulation.workloads.observe import ROOT_USER, exists
from tests.simulation.workloads.workload import Stepper
from tests.simulation.world import Violation

if TYPE_CHECKING:
    from dfs.client.client import Client
    from dfs.client.handles import FileHandle
    from dfs.types import InodeId
    from tests.simulation.workloads.workload import Site

FILE_NAME = b"slots"
SLOT_SIZES = (700, 1500, 5000, 300, 60_000, 66_000, 9000, 131_072, 2000, 40_000)
"""In the order of their places in the file; then the same again."""
SLOTS_PER_WRITER = 4


def place_of(index: int) -> tuple[int, int]:
    """Offset and size of a slot."""
    rounds, position = divmod(index, len(SLOT_SIZES))
    offset = rounds * sum(SLOT_SIZES) + sum(SLOT_SIZES[:position])
    return offset, SLOT_SIZES[position]


class SlotWriterOptions(WorkloadOptions):
    """The table `workloads.slot_writer`."""


def make_slot_writers(site: Site, options: SlotWriterOptions) -> list[SlotWriter]:
    """One client's."""
    stride = site.scenario.clients * options.per_client
    numbers = site.numbers(options.per_client)
    return [SlotWriter(site, number, stride, options) for number in numbers]


class SlotWriter(Stepper):
    """Owner of every `stride`-th slot. Outlives the clients that it works through."""

    def __init__(self, site: Site, number: int, stride: int, options: SlotWriterOptions) -> None:
        super().__init__(site, f"s{number}", options.pause_s)
        self._all: list[SlotWriter] = site.shared.get("slot writers", list, lambda _: "")
        self._all.append(self)
        indexes = [number + stride * turn for turn in range(SLOTS_PER_WRITER)]
        self._versions = {index: [bytes(place_of(index)[1])] for index in indexes}
        """Per slot: the synced bytes, then those after each later write."""
        self._end = 0
        """Where the last of this writer's bytes is, as far as its present client wrote it."""

    async def run(self, client: Client) -> None:
        """Work until told to stop; then everything is closed, and so it is durable."""
        ino = await self._find(client)
        handle = await client.open(ino, os.O_RDWR, ROOT_USER)
        for index in self._versions:
            await self._recover(client, handle, index)
        self._end = 0
        while not self.is_stopping:
            await self._think()
            handle = await self._act(client, ino, handle)
            self._count_step()
        await self._sync(client, handle)
        await client.release(handle)

    async def _find(self, client: Client) -> InodeId:
        found = await exists(client, ROOT, FILE_NAME)
        if found is not None:
            return found.ino
        flags = os.O_RDWR | os.O_CREAT
        handle, inode = await client.create(ROOT, FILE_NAME, 0o644, ROOT_USER, flags=flags)
        await client.release(handle)
        return inode.ino

    async def _act(self, client: Client, ino: InodeId, handle: FileHandle) -> FileHandle:
        index = self._random.choice(list(self._versions))
        action = self._random.choices(
            ("write", "read", "stat", "sync", "reopen", "look"), (6, 4, 4, 3, 1, 3)
        )[0]
        if action == "write":
            await self._write(client, handle, index)
        elif action == "read":
            await self._check(client, handle, index)
        elif action == "stat":
            await self._check_size(client, ino)
        elif action == "look":
            await self._look_at_other(client, ino, handle)
        elif action == "sync":
            await self._sync(client, handle)
        else:
            await self._sync(client, handle)
            await client.release(handle)
            return await client.open(ino, os.O_RDWR, ROOT_USER)
        return handle

    async def _write(self, client: Client, handle: FileHandle, index: int) -> None:
        offset, size = place_of(index)
        start = self._random.choice((0, self._random.randrange(size)))
        data = self._random.randbytes(self._random.randint(1, size - start))
        old = self._versions[index][-1]
        self._versions[index].append(old[:start] + data + old[start + len(data) :])
        self._note(f"writes slot {index} at {offset + start}: {len(data)} B")
        self._end = max(self._end, offset + start + len(data))
        await client.write(handle, offset + start, data)

    async def _check_size(self, client: Client, ino: InodeId) -> None:
        """The file reaches at least as far as this client has written."""
        size = (await client.getattr(ino)).size
        if size < self._end:
            raise Violation(f"{self.name}: the size is {size}, but {self._end} was written")

    async def _look_at_other(self, client: Client, ino: InodeId, handle: FileHandle) -> None:
        """After a look at the attributes no byte is older than its owner's last sync (I4). Through
        a kernel that takes an open."""
        if not hasattr(handle, "file"):
            return
        other = self._random.choice(self._all)
        index = self._random.choice(list(other._versions))
        before = list(other._versions[index])
        await client.getattr(ino)
        found = await self._read(client, handle, index)
        problem = check_synced_bytes([*before, *other._versions[index]], found)
        if problem:
            raise Violation(f"{self.name} sees slot {index} of {other.name}: {problem} (I4)")

    async def _sync(self, client: Client, handle: FileHandle) -> None:
        counts = {index: len(versions) for index, versions in self._versions.items()}
        await (client.fsync if self._random.random() < 0.5 else client.flush)(handle)
        for index, count in counts.items():
            del self._versions[index][: count - 1]
        self._note("its slots are safe")

    async def _check(self, client: Client, handle: FileHandle, index: int) -> None:
        expected = self._versions[index][-1]
        problem = check_read(expected, await self._read(client, handle, index))
        if problem:
            raise Violation(f"{self.name}: slot {index} at {place_of(index)[0]}: {problem}")

    async def _recover(self, client: Client, handle: FileHandle, index: int) -> None:
        found = await self._read(client, handle, index)
        problem = check_synced_bytes(self._versions[index], found)
        if problem:
            raise Violation(f"{self.name} after a crash: slot {index}: {problem} (I3)")
        self._versions[index] = [found]

    async def _read(self, client: Client, handle: FileHandle, index: int) -> bytes:
        """The slot's bytes; behind the end of the file there are zeros."""
        offset, size = place_of(index)
        return bytes(await client.read(handle, offset, size)).ljust(size, b"\0")

    async def check_seen_by(self, client: Client) -> None:
        """Another client finds this writer's bytes, which are all synced (I4)."""
        handle = await client.open(await self._find(client), os.O_RDONLY, ROOT_USER)
        for index in self._versions:
            await self._recover(client, handle, index)
        await client.release(handle)
