"""What a mount says of itself and of its inodes, as virtual extended attributes, all of them JSON.

    user.dfs.mount      which mount this is; commands find the cluster and the process by it
    user.dfs.info       the inode's record and extents
    user.dfs.stats      what the mount has done and does (`statistics`)
    user.dfs.profile.5  begins to look for 5 s where its time goes (`profiler`)
    user.dfs.profile    how far that is, then what it found

All but `info` are the same of any inode. They are read-only, never listed, and also served without
the prefix `user.`, which the kernel refuses for symlinks and devices (xattr(7)), and with `system.`
instead: then it does not look at the inode's permissions, for which it would have to ask this
mount, and the mount perhaps a server that does not answer.
"""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING

import msgspec

from dfs.core.messages import ExtentsReply, ReadExtents
from dfs.core.placement import servers_for
from dfs.errors import FsError
from dfs.limits import XATTR_VALUE_BYTES_MAX
from dfs.mount.profiler import Profiler
from dfs.mount.statistics import REQUESTS, MountStatistics, tap_figures
from dfs.mountpoint import printable
from dfs.version import version

if TYPE_CHECKING:
    from dfs.client.client import Client
    from dfs.config import MountConfig
    from dfs.core.namespace.records import Extent, Inode
    from dfs.mount.fusetap.session import FuseSession
    from dfs.types import InodeId

VIRTUAL_PREFIXES = (b"user.dfs.", b"dfs.", b"system.dfs.")
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


class ProfileBegun(msgspec.Struct, frozen=True):
    """A profile is being taken."""

    number: int
    """By which to know it in `ProfileState`."""


class InodeReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `dfs info` shows."""

    inode: dict[str, object]
    extents: tuple[ExtentPlace, ...]
    extent_count: int
    """Of all extents (of the first 100,000 or so); `extents` may be only the first of them."""
    is_complete: bool
    copies: int
    servers: tuple[ServerPlace, ...]


class Introspection:
    """What one mount says."""

    def __init__(self, client: Client, identity: MountIdentity, session: FuseSession) -> None:
        self._client = client
        self._identity = identity
        self._session = session
        # The request that asks is one.
        self.profiler = Profiler(has_work=lambda: REQUESTS.in_work_count > 0)

    async def value(self, ino: InodeId, name: bytes, uid: int) -> bytes:
        """The value of a virtual attribute, for this user. Raises FsError: ENODATA for any other
        name under the prefixes; EPERM, EBUSY, EINVAL of a profile."""
        value = msgspec.json.encode(await self._answer(ino, _short(name), uid))
        assert len(value) <= XATTR_VALUE_BYTES_MAX
        return value

    async def _answer(self, ino: InodeId, short: bytes, uid: int) -> msgspec.Struct:
        if short == b"mount":
            return self.identity
        if short == b"info":
            return inode_report(self._client, *await _extents_of(self._client, ino))
        if short == b"stats":
            return self._statistics()
        if short.split(b".")[0] == b"profile":
            return self._profile(short, uid)
        raise FsError(errno.ENODATA)

    @property
    def identity(self) -> MountIdentity:
        """As of now."""
        return msgspec.structs.replace(
            self._identity,
            session=self._client.session_id,
            slow_because=self._session.why_plain,
        )

    def _statistics(self) -> MountStatistics:
        requests = REQUESTS.figures(asking="getxattr")
        tap = self._session.tap
        return MountStatistics(
            pid=self._identity.pid,
            session=self._client.session_id,
            age_s=round(REQUESTS.age_s, 6),
            cpu_s=round(time.process_time(), 3),
            slow_because=self._session.why_plain,
            tap=None if tap is None else tap_figures(tap.status()),
            in_work_count=sum(each.in_work_count for each in requests.values()),
            requests=requests,
            client=self._client.statistics(),
        )

    def _profile(self, short: bytes, uid: int) -> msgspec.Struct:
        """Looks at what other users' requests make it do, so not for everybody."""
        if uid not in (0, os.geteuid()):
            raise FsError(errno.EPERM)
        wanted = short.removeprefix(b"profile").removeprefix(b".")
        if not wanted:
            return self.profiler.state
        if not wanted.isdigit():
            raise FsError(errno.EINVAL)
        # Short enough that whoever reads it has room for it at the first try: the second would find
        # it running.
        return ProfileBegun(self.profiler.start(int(wanted)))


def _short(name: bytes) -> bytes:
    """Without any of the prefixes."""
    prefix = next(prefix for prefix in VIRTUAL_PREFIXES if name.startswith(prefix))
    return name[len(prefix) :]


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
