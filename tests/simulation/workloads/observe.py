"""Reads a whole subtree through a client, and says how it differs from what a model allows."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, NamedTuple

from dfs.errors import FsError
from dfs.types import Credentials, InodeId
from tests.simulation.checkers.synced_bytes import check_synced_bytes

if TYPE_CHECKING:
    from dfs.client.client import Client
    from dfs.core.namespace.records import Inode
    from tests.simulation.workloads.steps import Path
    from tests.simulation.workloads.tree import Node, Tree

ROOT_USER = Credentials(0, 0)
READ_BYTES = 128 * 1024


class Found(NamedTuple):
    """What one path leads to."""

    inode: Inode
    content: bytes
    xattrs: dict[bytes, bytes]


async def read_tree(client: Client, ino: int) -> dict[Path, Found]:
    """Everything below a directory, by path; the directory itself is ()."""
    found: dict[Path, Found] = {}
    pending: list[tuple[Path, Inode]] = [((), await client.getattr(InodeId(ino)))]
    while pending:
        path, inode = pending.pop()
        content = b""
        if inode.is_file:
            inode, content = await _read_still(client, inode.ino)
        found[path] = Found(inode, content, await _read_xattrs(client, inode))
        if inode.is_directory:
            entries = await read_entries(client, inode.ino)
            pending += [((*path, name), child) for name, child in entries]
    return found


async def _read_still(client: Client, ino: InodeId) -> tuple[Inode, bytes]:
    """A file's attributes and bytes of one moment: its writer may flush in the background."""
    while True:
        inode = await client.getattr(ino)
        content = await read_file(client, ino)
        after = await client.getattr(ino)
        if after.data_version == inode.data_version:
            return after, content


async def read_file(client: Client, ino: InodeId) -> bytes:
    """All bytes of a file."""
    handle = await client.open(ino, os.O_RDONLY, ROOT_USER)
    try:
        pieces: list[bytes] = []
        offset = 0
        while True:
            piece = bytes(await client.read(handle, offset, READ_BYTES))
            if not piece:
                return b"".join(pieces)
            pieces.append(piece)
            offset += len(piece)
    finally:
        await client.release(handle)


async def read_entries(client: Client, ino: InodeId) -> list[tuple[bytes, Inode]]:
    """Names and inodes in a directory."""
    handle = await client.open_directory(ino)
    entries: list[tuple[bytes, Inode]] = []
    async for name, inode, _cookie in client.read_directory(handle, 0):
        if name not in (b".", b".."):
            entries.append((name, inode))
    await client.release_directory(handle)
    names = [name for name, _ in entries]
    assert len(set(names)) == len(names), f"names come twice: {names}"
    return entries


async def _read_xattrs(client: Client, inode: Inode) -> dict[bytes, bytes]:
    if inode.is_symlink:
        return {}
    names = await client.listxattr(inode.ino)
    return {name: await client.getxattr(inode.ino, name) for name in names}


async def exists(client: Client, parent: InodeId, name: bytes) -> Inode | None:
    """What the name leads to, or None."""
    try:
        return await client.lookup(parent, name)
    except FsError as error:
        if error.errno != errno.ENOENT:
            raise
        return None


def differences(tree: Tree, found: dict[Path, Found], *, after_crash: bool) -> list[str]:
    """In words, how what was found is not what the model says; empty when it fits.

    After a crash a file may be anything that one may leave of it (I3). To others who look at it
    while its writer lives, it may be so only as long as it was neither closed nor synced (I4).
    """
    expected = dict(tree.walk())
    lost = [f"{_text(path)} is gone" for path in expected if path not in found]
    extra = [f"{_text(path)} should not be there" for path in found if path not in expected]
    wrong = [
        f"{_text(path)}: {problem}"
        for path, node in expected.items()
        if path in found
        for problem in _node_problems(node, found[path], after_crash=after_crash)
    ]
    return lost + extra + wrong


def _node_problems(node: Node, found: Found, *, after_crash: bool) -> list[str]:
    inode = found.inode
    pairs = [
        ("mode", oct(node.mode), oct(inode.mode)),
        ("nlink", node.nlink, inode.nlink),
        ("target", node.target, inode.target),
        ("xattrs", node.xattrs, found.xattrs),
    ]
    if node.ino:
        pairs.append(("inode number", node.ino, inode.ino))
    if node.is_file:
        pairs.append(("size", len(found.content), inode.size))
    if node.is_directory:
        pairs.append(("size", len(node.children), inode.size))
    problems = [f"{what} {is_now}, expected {was}" for what, was, is_now in pairs if was != is_now]
    if node.is_file:
        versions = node.versions if after_crash or not node.is_told else [node.content]
        problem = check_synced_bytes(versions, found.content)
        problems += [problem] if problem else []
    return problems


def adopt(tree: Tree, found: dict[Path, Found]) -> None:
    """Take what was found for what must be there from now on: it is on stable storage."""
    for path, node in tree.walk():
        node.ino = found[path].inode.ino
        if node.is_file:
            node.versions = [found[path].content]


def _text(path: Path) -> str:
    return "/".join(os.fsdecode(name) for name in path) or "."
