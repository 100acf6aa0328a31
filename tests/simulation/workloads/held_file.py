"""Files that a task holds open, with or without a name, and what they must hold."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.simulation.checkers.verified_reads import check_read
from tests.simulation.workloads.observe import ROOT_USER
from tests.simulation.world import Violation

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from dfs.client.client import Client
    from dfs.client.handles import FileHandle
    from dfs.types import InodeId
    from tests.simulation.workloads.shared_names import SharedNames

SIZES = (10, 700, 5000, 70_000)
FILE_BYTES_MAX = 200_000
ACTIONS = {"write": 4, "cut": 2, "sync": 2, "read": 4, "release": 2}


def new_data(chooser: random.Random) -> bytes:
    """Something to write."""
    return chooser.randbytes(chooser.choice(SIZES))


class HeldFile:
    """One open."""

    def __init__(self, handle: FileHandle, content: bytes) -> None:
        self.handle = handle
        self.content = content
        """As the client that holds it must see it."""

    @property
    def ino(self) -> InodeId:
        return self.handle.inode.ino

    async def write(self, client: Client, offset: int, data: bytes) -> None:
        old = self.content
        self.content = old[:offset].ljust(offset, b"\0") + data + old[offset + len(data) :]
        await client.write(self.handle, offset, data)

    async def cut(self, client: Client, size: int) -> None:
        """It may also grow by that."""
        self.content = self.content[:size].ljust(size, b"\0")
        await client.setattr(self.ino, ROOT_USER, size=size, has_handle=True)

    async def check(self, client: Client, handle: FileHandle, *, is_nameless: bool) -> str:
        """Why what it holds is not right; empty when it is. The handle may be another one."""
        inode = await client.getattr(self.ino)
        if inode.size != len(self.content):
            return f"{inode.size} bytes long, not {len(self.content)}"
        if is_nameless and inode.nlink:
            return f"{inode.nlink} links, but it has no name"
        found = bytes(await client.read(handle, 0, len(self.content) + 1))
        return check_read(self.content, found)


class HeldFiles:
    """All of one task, through one client."""

    def __init__(
        self,
        task: str,
        chooser: random.Random,
        shared: SharedNames,
        note: Callable[[str], None],
    ) -> None:
        self._task = task
        self._random = chooser
        self._shared = shared
        self._note = note
        self._files: list[HeldFile] = []

    def __len__(self) -> int:
        return len(self._files)

    def add(self, file: HeldFile, how: str) -> None:
        self._files.append(file)
        self._shared.hold(file.ino, self._task)
        self._note(f"{how}: {file.ino}, {len(file.content)} B")

    def forget(self) -> None:
        """The client is dead, and with it everything that it held."""
        self._files.clear()
        self._shared.forget(self._task)

    async def use_one(self, client: Client) -> None:
        """Only a file that is the task's alone is changed."""
        file = self._random.choice(self._files)
        size, is_own = len(file.content), self._shared.is_alone_with(file.ino, self._task)
        [action] = self._random.choices(list(ACTIONS), list(ACTIONS.values()))
        self._note(f"{action} {file.ino}, {size} B{', alone' if is_own else ''}")
        if action == "write" and is_own:
            offset = self._random.choice((0, size, self._random.randrange(FILE_BYTES_MAX)))
            await file.write(client, min(offset, FILE_BYTES_MAX), new_data(self._random))
        elif action == "cut" and is_own:
            await file.cut(client, self._random.randrange(size + 5000))
        elif action == "sync":
            await client.fsync(file.handle)
        elif action == "release":
            await self._release(client, file)
        else:
            await self._check(client, file)

    async def _check(self, client: Client, file: HeldFile) -> None:
        """By its handle, or by another one of the same client (/proc/self/fd)."""
        is_nameless = file.ino in self._shared.gone
        handle = file.handle
        if self._random.random() < 0.3:
            handle = await client.open(file.ino, os.O_RDONLY, ROOT_USER)
        problem = await file.check(client, handle, is_nameless=is_nameless)
        if problem:
            raise Violation(f"{self._task}: open file {file.ino}: {problem} (I6)")
        if handle is not file.handle:
            await client.release(handle)

    async def release_one(self, client: Client) -> None:
        await self._release(client, self._random.choice(self._files))

    async def _release(self, client: Client, file: HeldFile) -> None:
        """It must be right to the last."""
        await self._check(client, file)
        self._files.remove(file)
        self._shared.let_go(file.ino, self._task)
        await client.release(file.handle)
