"""One process of the cluster, started by the runner, which therefore knows its pid and its end."""

from __future__ import annotations

import contextlib
import os
import signal
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import trio

from dfs.background import ReadyLine, dfs_command, last_line
from tests.simulation.world import Violation

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chaos.network import Host
    from tests.chaos.spawner import Spawner

START_PATIENCE_S = 90.0
END_PATIENCE_S = 90.0


class Part:
    """A metadata server, a chunk server or a mount, on its host. `watch` must run beside it."""

    def __init__(self, spawner: Spawner, host: Host, command: list[str], log_path: Path) -> None:
        self.name = host.name
        self.host = host
        self.log_path = log_path
        self.is_alive = False
        """It runs, and nobody has decided that it should not."""
        self._command = command
        self._spawner = spawner
        self._pid = 0
        self._started = trio.Event()

    async def start(self) -> None:
        """Start it; returns when it is ready. Raises Violation with its own words if it fails."""
        assert not self.is_alive
        self._pid, reading = self._spawner.spawn([*self.host.enter, *self._command], self.log_path)
        with trio.move_on_after(START_PATIENCE_S):
            line = await trio.to_thread.run_sync(partial(_read, reading), abandon_on_cancel=True)
            said = msgspec.json.decode(line, type=ReadyLine) if line else ReadyLine(error="ended")
            if said.error:
                raise Violation(f"{self.name} does not start: {said.error}; {self.last_words()}")
            self.is_alive = True
            self._started.set()
            return
        raise Violation(f"{self.name} is not ready after {START_PATIENCE_S:g} s")

    async def watch(self) -> None:
        """Raises Violation when the process ends though nobody told it to."""
        while True:
            await self._started.wait()
            self._started = trio.Event()
            await self._ended()
            if self.is_alive:
                status = self._spawner.status(self._pid)
                raise Violation(f"{self.name} ended by itself ({status}): {self.last_words()}")

    async def kill(self) -> None:
        """SIGKILL; returns when it is gone. A process that is paused dies as well."""
        self.is_alive = False
        self._signal(signal.SIGKILL)
        await self._ended()

    async def stop(self) -> None:
        """SIGTERM. Raises Violation unless it ends in order."""
        self.is_alive = False
        self._signal(signal.SIGTERM)
        with trio.fail_after(END_PATIENCE_S):
            await self._ended()
        if (status := self._spawner.status(self._pid)) != 0:
            raise Violation(f"{self.name} ended with {status}: {self.last_words()}")

    async def end_at_once(self) -> None:
        """SIGKILL, if it was ever started. Never raises."""
        if self._pid:
            await self.kill()

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def last_words(self) -> str:
        return last_line(self.log_path)

    def _signal(self, number: signal.Signals) -> None:
        assert self._pid
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, number)

    async def _ended(self) -> None:
        try:
            pidfd = os.pidfd_open(self._pid)
        except ProcessLookupError:
            return
        try:
            await trio.lowlevel.wait_readable(pidfd)
        finally:
            trio.lowlevel.notify_closing(pidfd)
            os.close(pidfd)


def _read(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as pipe:
        return pipe.readline()


def dfs_part(spawner: Spawner, host: Host, log_directory: Path, *arguments: str) -> Part:
    """A part that runs `dfs ARGUMENTS`."""
    return Part(spawner, host, dfs_command(*arguments), log_directory / f"{host.name}.log")
