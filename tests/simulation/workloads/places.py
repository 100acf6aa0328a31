"""Places that several workloads' objects share: whoever comes first makes them."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from dfs.errors import FsError
from dfs.types import ROOT, InodeId
from tests.simulation.workloads.observe import ROOT_USER, exists, read_file
from tests.simulation.world import Violation

if TYPE_CHECKING:
    from dfs.client.client import Client
    from dfs.client.handles import FileHandle

NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL
FILE_MODE = 0o644
LOOKS_MAX = 20


async def directory_at(client: Client, name: bytes, parent: InodeId = ROOT) -> InodeId:
    """The directory of that name, which others make at the same time."""
    while True:
        found = await exists(client, parent, name)
        if found is not None:
            return found.ino
        try:
            return (await client.mkdir(parent, name, 0o755, ROOT_USER)).ino
        except FsError as error:
            if error.errno != errno.EEXIST:
                raise


async def directories_at(client: Client, name: bytes, count: int) -> list[InodeId]:
    """That many directories in the one of that name."""
    parent = await directory_at(client, name)
    return [await directory_at(client, b"d%d" % number, parent) for number in range(count)]


async def open_at(client: Client, parent: InodeId, name: bytes, flags: int) -> FileHandle:
    """The file of that name, open; made if it is not there."""
    handle, _ = await client.create(parent, name, FILE_MODE, ROOT_USER, flags=flags | os.O_CREAT)
    return handle


async def read_at(client: Client, parent: InodeId, name: bytes) -> bytes | None:
    """All bytes of the file of that name; None if there is none."""
    for _ in range(LOOKS_MAX):
        inode = await exists(client, parent, name)
        if inode is None:
            return None
        try:
            return await read_file(client, inode.ino)
        except FsError as error:
            # Another one may have its name by now.
            if error.errno != errno.ESTALE:
                raise
    raise Violation(f"{name!r} leads to files that are gone, again and again")


async def errno_of(awaitable: object) -> int:
    """What a call was refused with; 0 if it was done."""
    try:
        await awaitable  # type: ignore[misc]
    except FsError as error:
        return error.errno
    return 0
