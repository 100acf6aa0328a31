"""Tasks of all clients append records to one file, each behind the last one.

With a lock, close-to-open is what is used: whoever appends makes a lock (a symlink that says whose
it is), asks for the size, writes there, syncs, and removes the lock. With `is_locking = false`
records are appended with O_APPEND alone, by all clients side by side.

Catches a lock that two clients get (I4, I8), a size or bytes that are older than the last sync of
another client (I4), and records that are lost, torn or out of order after a crash (I3).
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import trio

from dfs.errors import FsError
from tests.simulation.options import WorkloadOptions
from tests.simulation.workloads.observe import ROOT_USER, exists, read_file
from tests.simulation.workloads.places import directory_at, errno_of, open_at
from tests.simulation.workloads.records import Log, Record
from tests.simulation.workloads.workload import Stepper
from tests.simulation.world import Violation

if TYPE_CHECKING:
    from dfs.client.client import Client
    from dfs.client.handles import FileHandle
    from dfs.types import InodeId
    from tests.simulation.workloads.workload import Site

PLACE = b"appended"
FILE_NAME = b"log"
LOCK_NAME = b"lock"
RECORD_BYTES = (40, 300, 3000, 20_000, 70_000)
TAIL_BYTES = 100_000
KEPT_CHANCE = 0.3
LOCK_PAUSE_S = 0.05


class AppenderOptions(WorkloadOptions):
    """The table `workloads.appender`."""

    is_locking: bool = True
    """Exclude each other by a lock; without, O_APPEND alone must do."""


def make_appenders(site: Site, options: AppenderOptions) -> list[Appender]:
    """One client's; all append to one file."""
    log = site.shared.get("log", Log, lambda _log: "")
    numbers = site.numbers(options.per_client)
    return [Appender(site, number, log, options) for number in numbers]


class Appender(Stepper):
    """One task. Outlives the clients that it works through."""

    def __init__(self, site: Site, number: int, log: Log, options: AppenderOptions) -> None:
        super().__init__(site, f"a{number}", options.pause_s)
        self._number = number
        self._log = log
        self._is_locking = options.is_locking
        self._count = 0
        """Records that this task has begun to append."""
        self._kept: FileHandle | None = None
        """Open since before others appended."""
        self._directory: InodeId

    async def run(self, client: Client) -> None:
        """Work until told to stop; then everything is closed and the lock is free."""
        self._kept = None
        self._directory = await directory_at(client, PLACE)
        self._log.see_death(self.name)
        if self._is_locking and await self._holder(client) == self.name:
            self._note("still has the lock")
            await self._cut(client)
            await self._unlock(client)
        while not self.is_stopping:
            await self._think()
            if not self._is_locking:
                await self._append(client, os.O_RDWR | os.O_APPEND)
            elif await self._lock(client):
                if self._random.random() < KEPT_CHANCE:
                    await self._append_by_kept(client)
                else:
                    await self._append(client, os.O_RDWR)
                await self._unlock(client)
            self._count_step()
        if self._kept is not None:
            await client.release(self._kept)

    # ------------------------------------------------------------ the lock

    async def _holder(self, client: Client) -> str:
        """Who has the lock; nobody, if it is let go between the two looks."""
        found = await exists(client, self._directory, LOCK_NAME)
        try:
            return (await client.readlink(found.ino)).decode() if found is not None else ""
        except FsError as error:
            if error.errno != errno.ESTALE:
                raise
            return ""

    async def _lock(self, client: Client) -> bool:
        """Get the lock, or learn that another has it."""
        text = self.name.encode()
        call = client.symlink(self._directory, LOCK_NAME, text, ROOT_USER)
        number = await errno_of(call)
        if number == errno.EEXIST:
            await trio.sleep(LOCK_PAUSE_S)
            return False
        problem = self._log.lock(self.name)
        if number or problem:
            raise Violation(f"{self.name}: locking: errno {number}, {problem} (I4, I8)")
        return True

    async def _unlock(self, client: Client) -> None:
        self._log.unlock(self.name)
        number = await errno_of(client.unlink(self._directory, LOCK_NAME, ROOT_USER))
        if number:
            raise Violation(f"{self.name}: removing its own lock: errno {number} (I8)")

    # ------------------------------------------------------------ the file

    async def _append(self, client: Client, flags: int) -> None:
        handle = await open_at(client, self._directory, FILE_NAME, flags)
        size = (await client.getattr(handle.inode.ino)).size
        if self._is_locking:
            await self._check_end(client, handle, size)
        await self._write_records(client, handle, size)
        await client.release(handle)

    async def _append_by_kept(self, client: Client) -> None:
        """O_APPEND finds the end where it is now, by however old a handle (open(2))."""
        if self._kept is None:
            flags = os.O_RDWR | os.O_APPEND
            self._kept = await open_at(client, self._directory, FILE_NAME, flags)
        await self._write_records(client, self._kept, self._log.end_bytes)

    async def _write_records(self, client: Client, handle: FileHandle, size: int) -> None:
        """Some records, one after the other, synced in the end."""
        for _ in range(self._random.randint(1, 3)):
            self._count += 1
            size_wanted = self._random.choice(RECORD_BYTES)
            record = Record(self._number, self._count, size_wanted)
            self._log.begin(self.name, record)
            self._note(f"appends record {record.count} at {size}: {size_wanted} B")
            size += await client.write(handle, size, record.encoded())
        await (client.fsync if self._random.random() < 0.5 else client.flush)(handle)
        self._log.end(self.name)

    async def _check_end(self, client: Client, handle: FileHandle, size: int) -> None:
        """What the last holder of the lock synced is all there, and nothing behind it."""
        if size != self._log.end_bytes:
            raise Violation(f"{self.name}: size {size}, not {self._log.end_bytes} (I4)")
        start = max(0, size - self._random.randrange(1, TAIL_BYTES))
        found = bytes(await client.read(handle, start, size))
        problem = self._log.check_tail(start, found)
        if problem:
            raise Violation(f"{self.name}: {problem} (I4)")

    async def _cut(self, client: Client) -> None:
        """Having died with the lock: take away what was not synced, whole or torn."""
        handle = await open_at(client, self._directory, FILE_NAME, os.O_RDWR)
        size, end = (await client.getattr(handle.inode.ino)).size, self._log.end_bytes
        if size < end:
            raise Violation(f"{self.name} after a crash: size {size}, but {end} was synced (I3)")
        await client.setattr(handle.inode.ino, ROOT_USER, size=end, has_handle=True)
        await client.release(handle)

    async def check_seen_by(self, client: Client) -> None:
        """Another client finds all records that were synced, in order."""
        directory = await directory_at(client, PLACE)
        found = await exists(client, directory, FILE_NAME)
        content = await read_file(client, found.ino) if found is not None else b""
        problem = self._log.check(content, is_ordered=self._is_locking)
        if problem:
            raise Violation(f"{self.name}: the log as others see it: {problem}")
