"""A cluster of real processes with a real mount, for tests. The fixtures are in `conftest.py`.

Whatever a test leaves behind is taken down: processes by pid, mounts lazily, directories.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfs.background import dfs_environment
from dfs.cluster.directory import ClusterDirectory
from dfs.cluster.parts import surviving_processes
from dfs.mountpoint import FILESYSTEM_TYPE, find_mount, mount_table, take_off

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND_TIMEOUT_S = 240
POLL_S = 0.05
MEMORY_BYTES_MIN = 12 << 30


def can_mount() -> str:
    """Why this machine cannot run these tests; empty if it can."""
    if os.geteuid() != 0:
        return "needs root"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "needs /dev/fuse"
    return ""


def run_dfs(
    *arguments: object, timeout_s: float = COMMAND_TIMEOUT_S, **environment: str
) -> subprocess.CompletedProcess[str]:
    """`dfs ARGUMENTS`, whatever its status."""
    return subprocess.run(
        [sys.executable, "-m", "dfs", *map(str, arguments)],
        env=dfs_environment(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


class Cluster:
    """One local cluster, started by `dfs up`."""

    def __init__(self, top: Path, chunk_servers: int = 3, copies: int = 2) -> None:
        self.dir = top / "c"
        self.mountpoint = top / "m"
        self._sizes = ["--chunk-servers", str(chunk_servers), "--copies", str(copies)]

    @property
    def directory(self) -> ClusterDirectory:
        return ClusterDirectory(self.dir)

    @property
    def address(self) -> str:
        """The metadata server's."""
        return self.directory.meta_address

    # ------------------------------------------------------------ commands

    def dfs(self, *arguments: object, status: int = 0) -> str:
        """Run `dfs ARGUMENTS`, which must end with `status`; its output."""
        done = run_dfs(*arguments)
        said = f"dfs {' '.join(map(str, arguments))}: {done.returncode}\n{done.stdout}{done.stderr}"
        assert done.returncode == status, said
        return done.stdout

    def up(self) -> None:
        self.dfs("up", "--dir", self.dir, "--mount", self.mountpoint, *self._sizes)

    def down(self) -> None:
        self.dfs("down", "--dir", self.dir)

    def fsck(self, *arguments: object) -> dict[str, Any]:
        """`dfs fsck`, which must find no error; its report."""
        document = json.loads(self.dfs("fsck", self.dir, "--json", *arguments))
        assert document["is_clean"], document
        report: dict[str, Any] = document["report"]
        return report

    def remount(self) -> None:
        """Unmount and mount again: nothing is left in any cache."""
        self.dfs("umount", self.mountpoint)
        self.up()

    def wait_healthy(self, timeout_s: float = 30) -> None:
        """Return when all servers are up and the mount answers."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            done = run_dfs("up", "--dir", self.dir, "--mount", self.mountpoint, *self._sizes)
            if done.returncode == 0:
                return
            assert time.monotonic() < deadline_s, f"not healthy: {done.stderr}{self.logs()}"
            time.sleep(POLL_S)

    # ------------------------------------------------------------ processes

    def pids(self) -> dict[str, int]:
        """Role (`meta`, `chunk-N`, `mount`) → process id, of those that run."""
        state = self.directory.read_state()
        return {part.role: part.pid for part in state.parts if part.pid} if state else {}

    def supervisor_pid(self) -> int:
        state = self.directory.read_state()
        assert state is not None
        assert state.supervisor
        return state.supervisor

    def kill(self, role: str) -> int:
        """SIGKILL, and return once it is gone and its supervisor, which starts it again, has seen
        that. The pid it had."""
        pid = self._signal(role, signal.SIGKILL)
        _wait_gone(pid)
        self._wait(lambda: self.pids().get(role) != pid, f"the death of {role} to be noticed")
        return pid

    def stop(self, role: str) -> None:
        """Make it silent (SIGSTOP), as a machine that vanished is."""
        self._signal(role, signal.SIGSTOP)

    def resume(self, role: str) -> None:
        self._signal(role, signal.SIGCONT)

    def stop_process(self, role: str) -> None:
        """End it in order; it stays down until `start_process`."""
        _wait_gone(self._signal(role, signal.SIGTERM))
        self._wait(lambda: role not in self.pids(), f"{role} to end")

    def start_process(self, role: str) -> None:
        """Start every part that was ended in order."""
        os.kill(self.supervisor_pid(), signal.SIGHUP)
        self._wait(lambda: role in self.pids(), f"{role} to start")

    def _signal(self, role: str, number: signal.Signals) -> int:
        self._wait(lambda: role in self.pids(), f"{role} to run")
        pid = self.pids()[role]
        os.kill(pid, number)
        return pid

    def _wait(self, is_so: Any, what: str) -> None:
        deadline_s = time.monotonic() + 30
        while not is_so():
            assert time.monotonic() < deadline_s, f"waited for {what}{self.logs()}"
            time.sleep(POLL_S)

    # ------------------------------------------------------------ the end

    def logs(self) -> str:
        """The last lines of every log, for a failure's message."""
        parts = [""]
        for path in sorted((self.dir / "log").glob("*.log")):
            lines = path.read_text(errors="replace").splitlines()[-15:]
            parts += [f"--- {path.name}", *lines]
        return "\n".join(parts)

    def destroy(self) -> None:
        """Take down whatever is there, by pid, even after a failure. Never raises."""
        state = self.directory.read_state()
        supervisor = [state.supervisor] if state and state.supervisor else []
        if self.directory.is_running:
            for pid in supervisor:
                _kill(pid)
        for process in surviving_processes(self.directory).values():
            _kill(process.pid)
            process.close()
        unmount_below(self.dir.parent)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    _wait_gone(pid)


def _wait_gone(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    assert poll.poll(60_000), f"process {pid} does not end"
    os.close(descriptor)


def write_synced(path: Path, data: bytes) -> None:
    """Write a file so that it survives whatever dies from now on."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def is_alive(pid: int) -> bool:
    """It runs; one that has ended and waits for its parent does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def unmount_below(top: Path) -> None:
    """Detach every dfs mount below `top`."""
    for entry in reversed(mount_table()):
        if entry.filesystem_type == FILESYSTEM_TYPE and Path(entry.path).is_relative_to(top):
            with contextlib.suppress(OSError):
                take_off(entry.path, is_lazy=True)


def quick_directory() -> str | None:
    """Where a sync costs little, so that tests take seconds: memory, if there is plenty.

    What processes wrote survives their SIGKILL there as it does on a disk. DFS_TEST_DIR overrides.
    """
    if chosen := os.environ.get("DFS_TEST_DIR"):
        return chosen
    memory = "/dev/shm"
    is_roomy = os.path.isdir(memory) and shutil.disk_usage(memory).free > MEMORY_BYTES_MIN
    return memory if is_roomy else None


@contextlib.contextmanager
def running_cluster(*, depth: int = 0, **sizes: int) -> Iterator[Cluster]:
    """A cluster of its own in a temporary directory, `depth` long names deep; nothing of it is left
    afterwards."""
    top = Path(tempfile.mkdtemp(prefix="dfs-", dir=quick_directory()))
    top.chmod(0o755)
    cluster = Cluster(top.joinpath(*["long-name-" * 2] * depth), **sizes)
    try:
        cluster.up()
        assert find_mount(str(cluster.mountpoint)) is not None
        yield cluster
    finally:
        cluster.destroy()
        shutil.rmtree(top, ignore_errors=True)
