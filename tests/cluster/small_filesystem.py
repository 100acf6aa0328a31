"""A filesystem in memory, served as dfs serves its mounts but without a cluster behind it.

    python -c 'import dfs.mount, tests.cluster.small_filesystem as s; s.main()' MOUNTPOINT

(The tap has to be loaded before pyfuse3, which the imports here begin with.) It ends when it is
unmounted. One directory of files; names and attributes may be cached for ever.
The attribute `user.seen` of its root is JSON: how often each handler ran, the tap's counters, and
what kernel and daemon agreed on. Setting `user.advance` advances the dentry epoch.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

import pyfuse3
import trio
from pyfuse3 import FUSEError

from dfs.mount.fusetap.requests import kills_set_id
from dfs.mount.fusetap.session import FuseSession
from dfs.mount.fusetap.wire import OpenFlag, handle_with_flags

if TYPE_CHECKING:
    from collections.abc import Sequence

FOR_EVER_S = 1000.0
KILLS_KEPT = 20


class SmallFilesystem(pyfuse3.Operations):
    supports_dot_lookup = True
    enable_writeback_cache = False

    def __init__(self, session: FuseSession) -> None:
        super().__init__()
        self._session = session
        self._contents: dict[int, bytearray] = {}
        self._modes = {pyfuse3.ROOT_INODE: stat.S_IFDIR | 0o755}
        self._names: dict[bytes, int] = {}
        self._calls: Counter[str] = Counter()
        self._kills: deque[bool | None] = deque(maxlen=KILLS_KEPT)

    def _entry(self, inode: int) -> pyfuse3.EntryAttributes:
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = pyfuse3.InodeT(inode)
        entry.st_mode = pyfuse3.ModeT(self._modes[inode])
        entry.st_nlink = 1
        entry.st_size = len(self._contents.get(inode, b""))
        entry.entry_timeout = entry.attr_timeout = FOR_EVER_S
        return entry

    async def lookup(self, parent: int, name: bytes, ctx: Any) -> pyfuse3.EntryAttributes:
        self._calls["lookup"] += 1
        if name not in self._names:
            raise FUSEError(errno.ENOENT)
        return self._entry(self._names[name])

    async def getattr(self, inode: int, ctx: Any) -> pyfuse3.EntryAttributes:
        self._calls["getattr"] += 1
        return self._entry(inode)

    async def setattr(
        self, inode: int, attr: Any, fields: Any, fh: int | None, ctx: Any
    ) -> pyfuse3.EntryAttributes:
        if fields.update_mode:
            self._modes[inode] = stat.S_IFREG | stat.S_IMODE(attr.st_mode)
        if fields.update_size:
            self._note_kill()
            self._contents[inode][attr.st_size :] = b""
        return self._entry(inode)

    async def create(
        self, parent: int, name: bytes, mode: int, flags: int, ctx: Any
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        inode = self._names[name] = len(self._modes) + 1
        self._modes[inode] = stat.S_IFREG | 0o666
        self._contents[inode] = bytearray()
        return self._opened(inode, flags), self._entry(inode)

    async def open(self, inode: int, flags: int, ctx: Any) -> pyfuse3.FileInfo:
        self._calls["open"] += 1
        if flags & os.O_TRUNC:
            self._note_kill()
            self._contents[inode].clear()
        return self._opened(inode, flags)

    def _opened(self, inode: int, flags: int) -> pyfuse3.FileInfo:
        is_readable_only = flags & os.O_ACCMODE == os.O_RDONLY
        number = handle_with_flags(inode, OpenFlag.NOFLUSH if is_readable_only else OpenFlag(0))
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(number), direct_io=True)

    async def read(self, fh: int, off: int, size: int) -> bytes:
        return bytes(self._content(fh)[off : off + size])

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        self._calls["write"] += 1
        self._note_kill()
        self._content(fh)[off : off + len(buf)] = buf
        return len(buf)

    def _content(self, fh: int) -> bytearray:
        return self._contents[fh & 0xFFFF_FFFF]

    def _note_kill(self) -> None:
        if self._session.tap is not None:
            self._kills.append(kills_set_id(self._session.tap.last_request()))

    async def flush(self, fh: int) -> None:
        self._calls["flush"] += 1

    async def release(self, fh: int) -> None:
        return None

    async def opendir(self, inode: int, ctx: Any) -> pyfuse3.FileHandleT:
        return pyfuse3.FileHandleT(inode)

    async def unlink(self, parent: int, name: bytes, ctx: Any) -> None:
        del self._names[name]

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        return None

    async def getxattr(self, inode: int, name: bytes, ctx: Any) -> bytes:
        self._calls[f"getxattr {name.decode()}"] += 1
        if name != b"user.seen":
            raise FUSEError(errno.ENODATA)
        tap = self._session.tap
        seen = {
            "why_plain": self._session.why_plain,
            "agreed": int(self._session.agreed),
            "calls": self._calls,
            "kills": list(self._kills),
            "status": tap.status() if tap else {},
        }
        return json.dumps(seen).encode()

    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: Any) -> None:
        if name == b"user.advance":
            known = await trio.to_thread.run_sync(self._session.advance_dentry_epoch)
            self._calls["epoch known" if known else "epoch unknown"] += 1


async def serve(mountpoint: str) -> None:
    session = FuseSession()
    operations = SmallFilesystem(session)
    session.mount(operations, mountpoint, {"fsname=small", "default_permissions", "allow_other"})
    try:
        await session.serve(tasks_max=20)
    finally:
        session.close(unmount=True)


def main() -> None:
    trio.run(serve, sys.argv[1])
