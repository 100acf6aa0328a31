"""A real chunk server process for tests, and calls to it over its Unix socket."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from dfs.background import dfs_environment
from dfs.core.messages import ChunkReply
from dfs.rpc.client import RpcClient
from dfs.rpc.transport import system_environment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

START_TIMEOUT_S = 60.0


class ChunkProcess:
    """`dfs chunk` in `place`: data in place/data, log in place/log. `meta` need not answer."""

    def __init__(self, place: Path, *arguments: str, meta: str = "") -> None:
        self.place = place
        self.data = place / "data"
        self.log_path = place / "log"
        self.address = f"unix:{place}/socket"
        self._process: subprocess.Popen[bytes] | None = None
        self._arguments = [
            *("--data", str(self.data), "--listen", self.address),
            *("--meta", meta or f"unix:{place}/no-meta"),
            *arguments,
        ]

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start it and wait for nothing."""
        assert self._process is None
        with self.log_path.open("ab") as log_file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "dfs", "chunk", *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                env=dfs_environment(),
            )
        return self._process

    def start(self) -> None:
        """Start it; returns when it takes connections."""
        process = self.spawn()
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not self._is_listening():
            assert process.poll() is None, f"it ended: {self.log()}"
            assert time.monotonic() < deadline_s, f"it does not come up: {self.log()}"
            time.sleep(0.01)

    def kill(self) -> None:
        """kill -9, if it runs."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; returns its exit status."""
        return self._end(signal.SIGTERM)

    def failure(self) -> tuple[int, str]:
        """Start it expecting that it fails: exit status and what it said."""
        before = len(self.log())
        process = self.spawn()
        status = process.wait(START_TIMEOUT_S)
        self._process = None
        return status, self.log()[before:]

    def log(self) -> str:
        return self.log_path.read_text() if self.log_path.exists() else ""

    def segments(self) -> list[Path]:
        return sorted((self.data / "segments").iterdir())

    @asynccontextmanager
    async def client(self) -> AsyncIterator[RpcClient[Any]]:
        client: RpcClient[Any] = RpcClient(system_environment(), self.address, ChunkReply)
        async with client:
            yield client

    def _is_listening(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            return probe.connect_ex(str(self.place / "socket")) == 0

    def _end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        os.kill(process.pid, number)
        return process.wait(START_TIMEOUT_S)
