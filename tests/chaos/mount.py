"""A kernel mount that is killed, and mounted again: it has many lives, one process each.

It knows from the log of its process when a session was lost: that is where a mount tells it first.
"""

from __future__ import annotations

import ctypes
import os
import re
from typing import TYPE_CHECKING

import trio

from tests.chaos.inodes import close_quietly
from tests.chaos.mounted_client import MountedClient
from tests.chaos.part import dfs_part

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chaos.network import Host
    from tests.chaos.spawner import Spawner

SESSION_LOST = re.compile(rb"session \d+ is lost")
SESSIONS_PER_LIFE_MAX = 1000
OPEN_PATIENCE_S = 60.0
MNT_FORCE = 1
OPTIONS = ("-o", "sync")
"""Those who contend for names take what was answered for durable, whatever dies."""


class Mount:
    """A mount point and whatever process serves it now."""

    def __init__(
        self, spawner: Spawner, host: Host, target: str, path: Path, log_directory: Path
    ) -> None:
        path.mkdir()
        self.name = host.name
        self.host = host
        self.path = path
        self.life = 0
        self.part = dfs_part(
            spawner, host, log_directory, "mount", target, str(path), "--foreground", *OPTIONS
        )
        self._root = -1
        self._log_bytes_read = 0
        self._lost_count = 0
        self._is_serving = trio.Event()

    @property
    def session_id(self) -> int:
        """Differs when the life or the session differs."""
        return self.life * SESSIONS_PER_LIFE_MAX + self.lost_count

    @property
    def lost_count(self) -> int:
        """Sessions that were lost under living processes, ever."""
        with self.part.log_path.open("rb") as log_file:
            log_file.seek(self._log_bytes_read)
            text = log_file.read()
        whole_lines = text[: text.rfind(b"\n") + 1]
        self._log_bytes_read += len(whole_lines)
        self._lost_count += len(SESSION_LOST.findall(whole_lines))
        return self._lost_count

    def serves(self, life: int) -> bool:
        """This life is not over."""
        return self.part.is_alive and life == self.life

    async def start(self) -> None:
        await self.part.start()
        with trio.fail_after(OPEN_PATIENCE_S):
            self._root = await trio.to_thread.run_sync(self._open_root, abandon_on_cancel=True)
        self.life += 1
        self._is_serving.set()

    def _open_root(self) -> int:
        return os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)

    async def client(self, *, lives_on: bool) -> MountedClient:
        """A new client of the present life; waits for one to begin."""
        while not self._is_serving.is_set():
            await self._is_serving.wait()
        return MountedClient(self, self._root, lives_on=lives_on)

    async def kill(self) -> None:
        self._is_serving = trio.Event()
        await self.part.kill()
        await trio.to_thread.run_sync(close_quietly, self._root)

    async def stop(self) -> None:
        """Unmount. Raises Violation unless everything became durable."""
        self._is_serving = trio.Event()
        await trio.to_thread.run_sync(close_quietly, self._root)
        await self.part.stop()

    def abort(self) -> None:
        """Whoever hangs in this mount is told so at once."""
        ctypes.CDLL(None).umount2(os.fsencode(self.path), MNT_FORCE)
