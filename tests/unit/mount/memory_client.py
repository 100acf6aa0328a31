"""A client without servers: the real rules of the namespace over records in memory, contents as
bytes. It stands in for `dfs.client.client.Client` in tests of the FUSE adapter.
"""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

from dfs.client.statistics import ClientStatistics
from dfs.core.messages import StatFsReply
from dfs.core.namespace import ops
from dfs.core.namespace.apply import apply
from dfs.core.namespace.directories import lookup, read_directory
from dfs.core.namespace.entries import root_records
from dfs.core.namespace.inodes import get_directory, get_inode
from dfs.core.namespace.keys import inode_key
from dfs.core.namespace.view import Overlay, ScanRange
from dfs.core.namespace.xattrs import get_xattr, list_xattrs
from dfs.errors import FsError
from dfs.types import (
    ClusterId,
    ClusterMap,
    Credentials,
    InodeId,
    MapEpoch,
    SessionId,
    SpaceUsage,
    VolumeSettings,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from dfs.core.namespace.records import Inode, Record

R = TypeVar("R")
ROOT_CALLER = Credentials(0, 0)
START_NS = 1_700_000_000_000_000_000


class MemoryView:
    """Every record there is."""

    def __init__(self) -> None:
        self.records: dict[bytes, Record] = dict(root_records(START_NS))

    def get(self, key: bytes, record_type: type[R]) -> R | None:
        return self.records.get(key)  # type: ignore[return-value]

    def scan(self, scan_range: ScanRange, record_type: type[R]) -> list[tuple[bytes, R]]:
        keys = sorted(k for k in self.records if scan_range.start <= k < scan_range.end)
        if scan_range.is_reverse:
            keys.reverse()
        return [(key, self.records[key]) for key in keys[: scan_range.limit]]  # type: ignore[misc]


class MemoryHandle:
    def __init__(self, client: MemoryClient, ino: InodeId, flags: int, who: Credentials) -> None:
        self.client, self.ino, self.flags, self.credentials = client, ino, flags, who

    @property
    def inode(self) -> Inode:
        return get_inode(self.client.view, self.ino)

    @property
    def is_writable(self) -> bool:
        return self.flags & os.O_ACCMODE != os.O_RDONLY


class Listing:
    """Entries, one after the other."""

    def __init__(self, entries: list[tuple[bytes, Inode, int]]) -> None:
        self._rest = iter(entries)

    def __aiter__(self) -> Listing:
        return self

    async def __anext__(self) -> tuple[bytes, Inode, int]:
        for entry in self._rest:
            return entry
        raise StopAsyncIteration


class MemoryClient:
    """The methods of a client, as the adapter calls them; `calls` has their names in order."""

    def __init__(self) -> None:
        self.view = MemoryView()
        self.contents: dict[InodeId, bytearray] = {}
        self.calls: list[str] = []
        self.failure: Exception | None = None
        """Raised by the next method that asks a server."""
        self.loss_count = 0
        self.good_s = 0.0
        """For how long everything is leased."""
        self.now_ns = START_NS
        self.settings = VolumeSettings(ClusterId("c" * 32), 1 << 20)
        self.cluster_map = ClusterMap(MapEpoch(1), (), copies=2, min_copies=1)
        self.session_id = SessionId(7)
        self._next_ino = 2

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if callable(value) and not name.startswith("_"):
            self.calls.append(name)
        return value

    def _apply(self, op: ops.AnyOp) -> ops.OpResult:
        if self.failure is not None:
            raise self.failure
        overlay = Overlay(self.view)
        result = apply(overlay, op)
        for key, record in overlay.changes.items():
            if record is None:
                self.view.records.pop(key, None)
            else:
                self.view.records[key] = record
        return result

    def _common(self, credentials: Credentials) -> dict[str, Any]:
        self.now_ns += 1
        return {"credentials": credentials, "now_ns": self.now_ns}

    def _new_ino(self) -> InodeId:
        self._next_ino += 1
        return InodeId(self._next_ino - 1)

    def _inode_of(self, op: ops.AnyOp) -> Inode:
        inode = self._apply(op).inode
        assert inode is not None
        return inode

    def _removed(self, op: ops.Unlink | ops.Rmdir) -> Inode | None:
        """As the server does with an inode that nobody holds: at once it is no more."""
        inode = self._apply(op).inode
        if inode is not None and (inode.is_directory or inode.nlink == 0):
            self.view.records.pop(inode_key(inode.ino), None)
        return inode

    def statistics(self) -> ClientStatistics:
        return ClientStatistics(dirty_bytes=len(self.contents))

    def attributes_good_s(self, ino: InodeId) -> float:
        return self.good_s

    def name_good_s(self, parent: InodeId, name: bytes, ino: InodeId) -> float:
        return self.good_s

    def tell_when_forgotten(
        self, forget: Callable[[Collection[InodeId] | None], Awaitable[None]]
    ) -> None:
        self.forget = forget

    async def lookup(self, parent: InodeId, name: bytes) -> Inode:
        if self.failure is not None:
            raise self.failure
        return lookup(self.view, parent, name)

    async def getattr(self, ino: InodeId) -> Inode:
        if self.failure is not None:
            raise self.failure
        return get_inode(self.view, ino)

    async def setattr(self, ino: InodeId, credentials: Credentials, **fields: Any) -> Inode:
        inode = self._inode_of(ops.SetAttr(ino=ino, **fields, **self._common(credentials)))
        if (size := fields.get("size")) is not None:
            content = self.contents.setdefault(ino, bytearray())
            del content[size:]
            content.extend(bytes(size - len(content)))
        return inode

    async def mknod(
        self, parent: InodeId, name: bytes, mode: int, rdev: int, credentials: Credentials
    ) -> Inode:
        common = self._common(credentials)
        ino = self._new_ino()
        op = ops.Create(parent=parent, name=name, ino=ino, mode=mode, rdev=rdev, **common)
        return self._inode_of(op)

    async def mkdir(
        self, parent: InodeId, name: bytes, mode: int, credentials: Credentials
    ) -> Inode:
        common = self._common(credentials)
        op = ops.Mkdir(parent=parent, name=name, ino=self._new_ino(), mode=mode, **common)
        return self._inode_of(op)

    async def symlink(
        self, parent: InodeId, name: bytes, target: bytes, credentials: Credentials
    ) -> Inode:
        common = self._common(credentials)
        op = ops.Symlink(parent=parent, name=name, ino=self._new_ino(), target=target, **common)
        return self._inode_of(op)

    async def readlink(self, ino: InodeId) -> bytes:
        inode = get_inode(self.view, ino)
        if not inode.is_symlink:
            raise FsError(errno.EINVAL)
        return inode.target

    async def link(
        self, ino: InodeId, parent: InodeId, name: bytes, credentials: Credentials
    ) -> Inode:
        return self._inode_of(
            ops.Link(ino=ino, parent=parent, name=name, **self._common(credentials))
        )

    async def unlink(self, parent: InodeId, name: bytes, credentials: Credentials) -> Inode | None:
        return self._removed(ops.Unlink(parent=parent, name=name, **self._common(credentials)))

    async def rmdir(self, parent: InodeId, name: bytes, credentials: Credentials) -> Inode | None:
        return self._removed(ops.Rmdir(parent=parent, name=name, **self._common(credentials)))

    async def rename(
        self,
        parent: InodeId,
        name: bytes,
        new_parent: InodeId,
        new_name: bytes,
        flags: int,
        credentials: Credentials,
    ) -> None:
        self._apply(
            ops.Rename(
                parent=parent,
                name=name,
                new_parent=new_parent,
                new_name=new_name,
                flags=flags,
                **self._common(credentials),
            )
        )

    async def create(
        self, parent: InodeId, name: bytes, mode: int, credentials: Credentials, *, flags: int
    ) -> tuple[MemoryHandle, Inode]:
        common = self._common(credentials)
        is_exclusive = bool(flags & os.O_EXCL)
        op = ops.Create(
            parent=parent,
            name=name,
            ino=self._new_ino(),
            mode=mode,
            is_exclusive=is_exclusive,
            **common,
        )
        inode = self._inode_of(op)
        return await self.open(inode.ino, flags, credentials), inode

    async def open(self, ino: InodeId, flags: int, credentials: Credentials) -> MemoryHandle:
        get_inode(self.view, ino)
        if flags & os.O_TRUNC:
            await self.setattr(ino, credentials, size=0, has_handle=True)
        return MemoryHandle(self, ino, flags, credentials)

    async def read(self, handle: MemoryHandle, offset: int, length: int) -> bytes:
        if self.failure is not None:
            raise self.failure
        return bytes(self.contents.get(handle.ino, b"")[offset : offset + length])

    async def write(
        self, handle: MemoryHandle, offset: int, data: bytes, writer: Credentials
    ) -> int:
        content = self.contents.setdefault(handle.ino, bytearray())
        content.extend(bytes(max(0, offset - len(content))))
        content[offset : offset + len(data)] = data
        fields = ops.SetAttr(
            ino=handle.ino,
            size=len(content),
            has_handle=True,
            **self._common(writer),
        )
        self._apply(fields)
        return len(data)

    async def flush(self, handle: MemoryHandle) -> None:
        if self.failure is not None:
            raise self.failure

    async def fsync(self, handle: MemoryHandle) -> None:
        await self.flush(handle)

    async def release(self, handle: MemoryHandle) -> None:
        assert handle.client is self

    async def open_directory(self, ino: InodeId) -> Any:
        return SimpleNamespace(inode=get_directory(self.view, ino))

    async def sync_directory(self, handle: Any) -> None:
        if self.failure is not None:
            raise self.failure

    def read_directory(self, handle: Any, cookie: int) -> Listing:
        entries = read_directory(self.view, handle.inode.ino, b"", 100_000)
        rest = enumerate(entries[cookie:], cookie + 1)
        return Listing([(name, inode, position) for position, (name, inode) in rest])

    async def release_directory(self, handle: Any) -> None:
        assert handle.inode.is_directory

    async def getxattr(self, ino: InodeId, name: bytes) -> bytes:
        return get_xattr(self.view, ino, name)

    async def listxattr(self, ino: InodeId) -> list[bytes]:
        return list_xattrs(self.view, ino)

    async def setxattr(
        self, ino: InodeId, name: bytes, value: bytes, flags: int, credentials: Credentials
    ) -> None:
        common = self._common(credentials)
        self._apply(ops.SetXattr(ino=ino, name=name, value=value, flags=flags, **common))

    async def removexattr(self, ino: InodeId, name: bytes, credentials: Credentials) -> None:
        self._apply(ops.RemoveXattr(ino=ino, name=name, **self._common(credentials)))

    async def statfs(self) -> StatFsReply:
        space = SpaceUsage(capacity_bytes=1 << 40, used_bytes=1 << 39, free_bytes=1 << 39)
        return StatFsReply(inode_count=3, stored_bytes=5, space=space)
