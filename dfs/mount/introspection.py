"""What a mount says of itself and of its inodes, as virtual extended attributes.

`user.dfs.mount` (of any inode) is JSON that says which mount this is; commands find the cluster and
the process by it. `user.dfs.info` is JSON of the inode's record and extents. Both are read-only,
never listed, and also served without the prefix `user.`, which the kernel refuses for symlinks and
devices (xattr(7)).
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import msgspec

from dfs.core.messages import ExtentsReply, ReadExtents
from dfs.core.placement import servers_for
from dfs.errors import FsError
from dfs.limits import XATTR_VALUE_BYTES_MAX
from dfs.mountpoint import printable
from dfs.version import version

if TYPE_CHECKING:
    from dfs.client.client import Client
    from dfs.config import MountConfig
    from dfs.core.namespace.records import Extent, Inode
    from dfs.types import InodeId

VIRTUAL_PREFIXES = (b"user.dfs.", b"dfs.")
EXTENTS_SHOWN = 128
"""More would not fit into an attribute's value."""
PAGES_READ_MAX = 50


class MountIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Which mount this is."""

    pid: int
    addresses: tuple[str, ...]
    cluster_id: str
    mountpoint: str
    source: str
    subdirectory: str
    session: int
    log_path: str
    version: str
    slow_because: str = ""
    """Why requests do not pass through the tap (`dfs.mount.fusetap`); empty if they do."""

    @classmethod
    def of(cls, client: Client, config: MountConfig) -> MountIdentity:
        return cls(
            pid=os.getpid(),
            addresses=config.addresses,
            cluster_id=client.settings.cluster_id,
            mountpoint=printable(config.mountpoint),
            source=printable(config.source),
            subdirectory=printable(config.subdirectory),
            session=client.session_id,
            log_path=printable(config.log_path),
            version=version(),
        )


class ServerPlace(msgspec.Struct, frozen=True):
    """A chunk server as `dfs info` shows it."""

    server_id: str
    address: str
    zone: str
    state: str


class ExtentPlace(msgspec.Struct, frozen=True, omit_defaults=True):
    """An extent, and where its block should be: the first `copies` of `servers` that took it."""

    offset: int
    length: int
    block_id: str = ""
    """Hex; empty for an inline extent."""
    block_offset: int = 0
    servers: tuple[int, ...] = ()
    """Indices into `InodeReport.servers`, best first."""


class InodeReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `dfs info` shows."""

    inode: dict[str, object]
    extents: tuple[ExtentPlace, ...]
    extent_count: int
    """Of all extents (of the first 100,000 or so); `extents` may be only the first of them."""
    is_complete: bool
    copies: int
    servers: tuple[ServerPlace, ...]


async def virtual_xattr(
    client: Client, identity: MountIdentity, ino: InodeId, name: bytes
) -> bytes:
    """The value, JSON. Raises FsError(ENODATA) for any other name under the prefixes."""
    short = name.removeprefix(b"user.")
    if short == b"dfs.mount":
        current = msgspec.structs.replace(identity, session=client.session_id)
        return msgspec.json.encode(current)
    if short == b"dfs.info":
        return await _encoded_report(client, ino)
    raise FsError(errno.ENODATA)


async def _encoded_report(client: Client, ino: InodeId) -> bytes:
    inode, extents = await _extents_of(client, ino)
    report = inode_report(client, inode, extents)
    value = msgspec.json.encode(report)
    assert len(value) <= XATTR_VALUE_BYTES_MAX
    return value


async def _extents_of(client: Client, ino: InodeId) -> tuple[Inode, list[Extent]]:
    """The inode and its extents, by offset; of a file with very many, those of the first pages."""
    inode = await client.getattr(ino)
    extents: list[Extent] = []
    start = 0
    for _ in range(PAGES_READ_MAX):
        if not inode.is_file or start >= inode.size:
            break
        request = ReadExtents(ino=ino, start=start, end=inode.size)
        reply = await client.meta.ask(request, ExtentsReply)
        assert reply.end > start
        extents += [extent for extent in reply.extents if extent.offset >= start]
        start = reply.end
    return inode, extents


def inode_report(client: Client, inode: Inode, extents: list[Extent]) -> InodeReport:
    """Pure in what the client knows now."""
    servers = client.cluster_map.servers
    positions = {server.server_id: position for position, server in enumerate(servers)}
    places = []
    for extent in extents[:EXTENTS_SHOWN]:
        chosen = [] if extent.is_inline else servers_for(extent.block_id, client.cluster_map)
        place = ExtentPlace(
            offset=extent.offset,
            length=extent.length,
            block_id=extent.block_id.hex(),
            block_offset=extent.block_offset,
            servers=tuple(positions[s.server_id] for s in chosen[: client.cluster_map.copies]),
        )
        places.append(place)
    fields = msgspec.structs.asdict(inode)
    fields["target"] = inode.target.decode("utf-8", "backslashreplace")
    return InodeReport(
        inode=fields,
        extents=tuple(places),
        extent_count=len(extents),
        is_complete=len(extents) <= EXTENTS_SHOWN,
        copies=client.cluster_map.copies,
        servers=tuple(ServerPlace(s.server_id, s.address, s.zone, s.state.value) for s in servers),
    )
