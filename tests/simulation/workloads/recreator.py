"""Tasks of all clients write and delete whole files of the same few contents.

So blocks lose their last reference and get a first one again all the time, while others upload the
same content, commit it, or read it: condemned blocks, deletions that are under way, and commits
that are refused because what they name was deleted meanwhile are what this meets.

Each task alone changes the names in its directory, and every step ends durable: others, too, must
find exactly that (I4), or, while a step is under way, bytes of what was and what will be there.

Catches blocks that are deleted though a file needs them, or again (I1, I6), bytes of another block
(I2), and files that are not whole after a crash (I3) or a rename (I5).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.simulation.checkers.synced_bytes import check_synced_bytes
from tests.simulation.cluster import BLOCK_BYTES
from tests.simulation.options import WorkloadOptions
from tests.simulation.workloads.kept import Kept
from tests.simulation.workloads.observe import ROOT_USER
from tests.simulation.workloads.places import directory_at, errno_of, open_at, read_at
from tests.simulation.workloads.workload import Stepper
from tests.simulation.world import Violation

if TYPE_CHECKING:
    from dfs.client.client import Client
    from dfs.client.handles import FileHandle
    from dfs.types import InodeId
    from tests.simulation.workloads.workload import Site

PLACE = b"recreated"
NAMES = (b"a",)
NEW_NAME = b"new"
PREFIX = (b"what all begin with. " * 4000)[:BLOCK_BYTES]
BLOBS = (
    PREFIX + (b"blob one goes on. " * 8000)[: 2 * BLOCK_BYTES],
    PREFIX + (b"blob two goes on. " * 8000)[: BLOCK_BYTES + 20_000],
)
ACTIONS = {"write": 4, "replace": 5, "waste": 2, "unlink": 6, "cut": 3, "extend": 3, "read": 5}

Library = dict[bytes, Kept]
"""Every file of every task, by its path below PLACE."""


class RecreatorOptions(WorkloadOptions):
    """The table `workloads.recreator`."""


def make_recreators(site: Site, options: RecreatorOptions) -> list[Recreator]:
    """One client's; all read each other's files."""
    library = site.shared.get("library", Library, lambda _library: "")
    numbers = site.numbers(options.per_client)
    return [Recreator(site, number, library, options) for number in numbers]


class Recreator(Stepper):
    """One task. Outlives the clients that it works through."""

    is_observable = True

    def __init__(
        self, site: Site, number: int, library: Library, options: RecreatorOptions
    ) -> None:
        super().__init__(site, f"t{number}", options.pause_s)
        self._library = library
        self._files = {name: Kept() for name in NAMES}
        library.update({self._path(name): kept for name, kept in self._files.items()})
        self._directory: InodeId

    def _path(self, name: bytes) -> bytes:
        return self.name.encode() + b"/" + name

    async def run(self, client: Client) -> None:
        """Work until told to stop; nothing is open between two steps."""
        place = await directory_at(client, PLACE)
        self._directory = await directory_at(client, self.name.encode(), place)
        await errno_of(client.unlink(self._directory, NEW_NAME, ROOT_USER))
        for name, kept in self._files.items():
            kept.settle(await self._check(client, self._path(name)))
        while not self.is_stopping:
            await self._think()
            await self._act(client)
            self._count_step()

    async def _act(self, client: Client) -> None:
        [action] = self._random.choices(list(ACTIONS), list(ACTIONS.values()))
        if action == "read":
            await self._check(client, self._random.choice(list(self._library)))
            return
        name = self._random.choice(NAMES)
        old = self._files[name].content
        self._note(f"{action} {name.decode()}, {'nothing' if old is None else len(old)} …")
        if action == "waste":
            await self._waste(client)
        elif action == "replace":
            await self._replace(client, name, self._blob())
        elif action == "write" or old is None:
            await self._write(client, name, self._blob())
        elif action == "unlink":
            await self._unlink(client, name)
        elif action == "cut":
            await self._cut(client, name, old)
        else:
            await self._extend(client, name, old)
        self._note(f"{action} {name.decode()}: done")

    def _blob(self) -> bytes:
        """A content that others have as well, perhaps only the beginning of it."""
        blob = self._random.choice(BLOBS)
        return self._random.choice((blob, blob, blob[: 2 * BLOCK_BYTES], blob[: len(blob) // 2]))

    # ------------------------------------------------------------ what changes a file

    async def _write(self, client: Client, name: bytes, new: bytes) -> None:
        """What was there is cut to nothing first."""
        self._files[name].begin(b"", new)
        handle = await open_at(client, self._directory, name, os.O_RDWR | os.O_TRUNC)
        await self._write_durably(client, handle, 0, new)
        self._files[name].settle(new)

    async def _write_durably(
        self, client: Client, handle: FileHandle, offset: int, data: bytes
    ) -> None:
        await client.write(handle, offset, data)
        await client.fsync(handle)
        await client.release(handle)

    async def _replace(self, client: Client, name: bytes, new: bytes) -> None:
        """A rename promises the bytes that were written before it (I5)."""
        directory = self._directory
        handle = await open_at(client, directory, NEW_NAME, os.O_RDWR)
        await client.write(handle, 0, new)
        await client.release(handle)
        self._files[name].begin(new)
        await client.rename(directory, NEW_NAME, directory, name, 0, ROOT_USER)
        self._files[name].settle(new)

    async def _waste(self, client: Client) -> None:
        """Blocks are uploaded, and perhaps committed, that soon nobody needs."""
        handle = await open_at(client, self._directory, NEW_NAME, os.O_RDWR)
        await client.write(handle, 0, self._blob())
        await self._think()
        await client.unlink(self._directory, NEW_NAME, ROOT_USER)
        await client.release(handle)

    async def _unlink(self, client: Client, name: bytes) -> None:
        self._files[name].begin(None)
        await client.unlink(self._directory, name, ROOT_USER)
        self._files[name].settle(None)

    async def _cut(self, client: Client, name: bytes, old: bytes) -> None:
        """Down to what all contents begin with, or into the middle of a block."""
        size = min(len(old), self._random.choice((0, BLOCK_BYTES, BLOCK_BYTES, 30_000, 100_000)))
        self._files[name].begin(old[:size])
        handle = await open_at(client, self._directory, name, os.O_RDWR)
        await client.setattr(handle.inode.ino, ROOT_USER, size=size, has_handle=True)
        await client.release(handle)
        self._files[name].settle(old[:size])

    async def _extend(self, client: Client, name: bytes, old: bytes) -> None:
        """Make a whole blob of its beginning."""
        new = next((blob for blob in BLOBS if blob.startswith(old)), old)
        self._files[name].begin(new)
        handle = await open_at(client, self._directory, name, os.O_RDWR)
        await self._write_durably(client, handle, len(old), new[len(old) :])
        self._files[name].settle(new)

    # ------------------------------------------------------------ what is there

    async def _check(self, client: Client, path: bytes) -> bytes | None:
        """The file, which may be another task's. It must be what that one knows, or, if it was
        changed meanwhile, at least bytes that someone wrote there."""
        kept = self._library[path]
        change_count = kept.change_count
        found = await self._read(client, path)
        if kept.change_count == change_count:
            problem = kept.check(found)
        else:
            problem = check_synced_bytes((b"", *BLOBS), found or b"")
        if problem:
            raise Violation(f"{self.name}: {path.decode()}: {problem}")
        return found

    async def _read(self, client: Client, path: bytes) -> bytes | None:
        directory_name, name = path.split(b"/")
        directory = await directory_at(client, directory_name, await directory_at(client, PLACE))
        return await read_at(client, directory, name)

    async def check_seen_by(self, client: Client) -> None:
        """Another client finds what this task knows."""
        for name in NAMES:
            await self._check(client, self._path(name))
