"""A process that starts all others, so that the one with open files on the mounts never forks.

The child of a fork shares every descriptor, and closes it when it becomes another program. Closing
a file of a mount asks its filesystem (FLUSH), which may wait for the very process that is about to
be started, and the parent waits for the child.
"""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
from typing import TYPE_CHECKING, Any

from dfs.background import dfs_environment

if TYPE_CHECKING:
    from pathlib import Path

ANSWER_BYTES_MAX = 1 << 20
TEXT_MAX = ANSWER_BYTES_MAX // 16


class Spawner:
    """Its methods block until the helper has answered. Make it before any mount is touched."""

    def __init__(self) -> None:
        self._socket, helper = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.fork() == 0:
            self._socket.close()
            try:
                _Helper(helper).serve()
            finally:
                os._exit(0)
        helper.close()

    def spawn(self, command: list[str], log_path: Path) -> tuple[int, int]:
        """Start `command`, with `--ready-fd N` at its end. Its pid, and the descriptor from which
        its ready line can be read."""
        self._socket.send(pickle.dumps(("spawn", command, log_path)))
        answer, descriptors, _, _ = socket.recv_fds(self._socket, ANSWER_BYTES_MAX, 1)
        return pickle.loads(answer), descriptors[0]

    def status(self, pid: int) -> int | None:
        """The exit status of one that was spawned; None while it runs."""
        self._socket.send(pickle.dumps(("status", pid)))
        status: int | None = pickle.loads(self._socket.recv(ANSWER_BYTES_MAX))
        return status

    def run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        """Run `command` to its end; the last of what it said."""
        self._socket.send(pickle.dumps(("run", command)))
        done: subprocess.CompletedProcess[str] = pickle.loads(self._socket.recv(ANSWER_BYTES_MAX))
        return done


class _Helper:
    """The other side. Ends with the runner."""

    def __init__(self, own_socket: socket.socket) -> None:
        self._socket = own_socket
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def serve(self) -> None:
        while request := self._socket.recv(ANSWER_BYTES_MAX):
            name, *arguments = pickle.loads(request)
            answer, descriptors = getattr(self, f"_{name}")(*arguments)
            socket.send_fds(self._socket, [pickle.dumps(answer)], descriptors)
            for descriptor in descriptors:
                os.close(descriptor)

    def _spawn(self, command: list[str], log_path: Path) -> tuple[int, list[int]]:
        reading, writing = os.pipe()
        with log_path.open("ab") as log_file:
            process = subprocess.Popen(
                [*command, "--ready-fd", str(writing)],
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                env=dfs_environment(),
                pass_fds=[writing],
            )
        os.close(writing)
        self._processes[process.pid] = process
        return process.pid, [reading]

    def _status(self, pid: int) -> tuple[int | None, list[int]]:
        return self._processes[pid].poll(), []

    def _run(self, command: list[str]) -> tuple[Any, list[int]]:
        done = subprocess.run(
            command,
            env=dfs_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        done.stdout, done.stderr = done.stdout[-TEXT_MAX:], done.stderr[-TEXT_MAX:]
        return done, []
