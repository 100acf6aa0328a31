"""The processes of a local cluster: starting one, finding those that outlived their supervisor,
stopping them.

Parts do not die with the supervisor: whoever uses the mount should not notice. Each carries its
directory and role in its environment, so that the next supervisor (or `dfs down`) finds exactly
these processes again, whatever files say.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from dfs.background import open_process, send_signal, spawn, wait_for_end
from dfs.cluster.directory import MOUNT_ROLE

if TYPE_CHECKING:
    import subprocess

    from dfs.cluster.directory import ClusterDirectory

DIRECTORY_VARIABLE = "DFS_LOCAL_CLUSTER"
ROLE_VARIABLE = "DFS_LOCAL_ROLE"
STOP_PATIENCE_S = 30.0
MOUNT_STOP_PATIENCE_S = 150.0
"""A mount may have to wait for servers before it can make everything durable."""


class Process:
    """A running part. `wait` gives its exit status, None if this process did not start it."""

    def __init__(self, role: str, pid: int, pidfd: int) -> None:
        self.role = role
        self.pid = pid
        self.started_s = time.monotonic()
        self._pidfd = pidfd
        self._child: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, directory: ClusterDirectory, role: str, arguments: list[str]) -> Process:
        marks = {DIRECTORY_VARIABLE: str(directory.top), ROLE_VARIABLE: role}
        child = spawn(arguments, directory.log(role), extra_environment=marks)
        pidfd = open_process(child.pid)
        assert pidfd is not None, "an unreaped child always has a pid"
        started = cls(role, child.pid, pidfd)
        started._child = child
        return started

    async def wait(self) -> int | None:
        await trio.lowlevel.wait_readable(self._pidfd)
        return None if self._child is None else self._child.wait()

    @property
    def has_ended(self) -> bool:
        return wait_for_end(self._pidfd, 0)

    async def stop(self) -> str:
        """Ask it to end, and wait. Returns what went wrong, or nothing."""
        patience_s = MOUNT_STOP_PATIENCE_S if self.role == MOUNT_ROLE else STOP_PATIENCE_S
        send_signal(self._pidfd, signal.SIGTERM)
        send_signal(self._pidfd, signal.SIGCONT)
        with trio.move_on_after(patience_s):
            status = await self.wait()
            return "" if not status else f"{self.role} ended with status {status}"
        send_signal(self._pidfd, signal.SIGKILL)
        await self.wait()
        return f"{self.role} did not end within {patience_s:g} s and was killed"

    def close(self) -> None:
        os.close(self._pidfd)


def surviving_processes(directory: ClusterDirectory) -> dict[str, Process]:
    """Parts of this cluster that run now, by role, whoever started them."""
    found = {}
    for pid in [int(name) for name in os.listdir("/proc") if name.isdecimal()]:
        role = _role_of(pid, directory)
        pidfd = open_process(pid) if role else None
        if role and pidfd is not None:
            found[role] = Process(role, pid, pidfd)
    return found


def _role_of(pid: int, directory: ClusterDirectory) -> str:
    """The part that process `pid` is of this cluster; empty if none."""
    try:
        marks = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    wanted = os.fsencode(f"{DIRECTORY_VARIABLE}={directory.top}")
    if wanted not in marks:
        return ""
    prefix = f"{ROLE_VARIABLE}=".encode()
    found = next((mark for mark in marks if mark.startswith(prefix)), prefix)
    return found.removeprefix(prefix).decode("ascii", "replace")


async def stop_in_order(processes: dict[str, Process]) -> list[str]:
    """Mount first (it flushes), then the metadata server, then the chunk servers at once.

    Returns what went wrong, in words.
    """
    problems: list[str] = []

    async def stop(role: str) -> None:
        problem = await processes[role].stop()
        if problem:
            problems.append(problem)

    chunks = [role for role in processes if role.startswith("chunk-")]
    for group in ([MOUNT_ROLE], ["meta"], chunks):
        async with trio.open_nursery() as nursery:
            for role in group:
                if role in processes:
                    nursery.start_soon(stop, role)
    return problems
