"""The processes and mounts of one rival: in a network of their own, ended by their ids.

Their network namespace has one address beside 127.0.0.1 and no way out. So default ports clash with
nothing, nothing on the outside can be asked, and a rival that refuses 127.0.0.1 (MooseFS) has
another one. Mounts are the kernel's: they are seen outside all the same. State: the processes and
the mount points, each in the order of their start.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tools.bench.rivals.mounts import is_mounted, unmount
from tools.bench.rivals.rival import RivalError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ADDRESS = "192.0.2.1"
"""For documentation (RFC 5737): nobody has it."""
READY_PATIENCE_S = 90.0
RUN_PATIENCE_S = 120.0
END_PATIENCE_S = 20.0
POLL_S = 0.05

# Several rivals raise their own priority to -19: all shall have what the benchmark was given.
_EQUAL_PRIORITY = ("setpriv", "--inh-caps=-sys_nice", "--bounding-set=-sys_nice", "--")


@dataclass(frozen=True)
class _Started:
    name: str
    process: subprocess.Popen[bytes]
    stop_signal: signal.Signals


class Processes:
    """What a rival runs. `directory` gets one log per process; `rival` begins every error."""

    def __init__(self, rival: str, directory: Path, extra_environment: Mapping[str, str]) -> None:
        self._rival = rival
        self._directory = directory
        self._environment = {**os.environ, "TMPDIR": str(directory), **extra_environment}
        self._started: list[_Started] = []
        self._mountpoints: list[Path] = []
        self._holder: int | None = None

    def open_network(self) -> None:
        """Make the namespace; it lasts as long as the process that holds it."""
        assert self._holder is None
        holder = self._spawn("network", ["unshare", "--net", "--", "sleep", "infinity"])
        ours = os.readlink("/proc/self/ns/net")
        namespace = f"/proc/{holder}/ns/net"
        self.wait_until("a network namespace", lambda: os.readlink(namespace) != ours)
        self._holder = holder
        self.run(["ip", "link", "set", "lo", "up"])
        self.run(["ip", "address", "add", f"{ADDRESS}/32", "dev", "lo"])

    def start(
        self, name: str, command: Sequence[str], *, stop_signal: signal.Signals = signal.SIGTERM
    ) -> None:
        """Start a process that stays in the foreground. It is told to end by `stop_signal`."""
        self._spawn(name, [*self._inside(), *command], stop_signal=stop_signal)

    def mount(self, mountpoint: Path, command: Sequence[str]) -> Path:
        """Start a process that mounts there, and wait until it has; `stop` takes it off. Returns
        the mount point."""
        mountpoint.mkdir()
        self._mountpoints.append(mountpoint)
        self.start(mountpoint.name, command)
        self.wait_until("mount", lambda: is_mounted(mountpoint))
        return mountpoint

    def run(self, command: Sequence[str], *, called: str = "") -> str:
        """What a command prints. Raises RivalError with its last line if it fails.

        `called`: its name in the error, if its first word would not do.
        """
        try:
            done = subprocess.run(
                [*self._inside(), *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=self._directory,
                env=self._environment,
                text=True,
                errors="replace",
                timeout=RUN_PATIENCE_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise RivalError(f"{self._rival}: {error}") from None
        if done.returncode != 0:
            said = last_line(done.stdout) or f"ended with status {done.returncode}"
            raise RivalError(f"{self._rival}: {called or command[0]}: {said}")
        return done.stdout

    def wait_until(self, what: str, is_so: Callable[[], bool]) -> None:
        """Returns when it is so. Raises RivalError if a process ends before, or it takes long."""
        deadline_s = time.monotonic() + READY_PATIENCE_S
        while not is_so():
            for started in self._started:
                if _has_ended(started.process):
                    said = last_line(self.log(started.name)) or "without a word"
                    raise RivalError(f"{self._rival}: {started.name} has ended: {said}")
            if time.monotonic() > deadline_s:
                raise RivalError(f"{self._rival}: no {what} after {READY_PATIENCE_S:.0f} s")
            time.sleep(POLL_S)

    def log(self, name: str) -> str:
        """All that the process has printed so far."""
        return self._log_path(name).read_text(errors="replace")

    def stop(self) -> None:
        """Unmount, then end them all, the last one first; whoever does not end is killed, with its
        children."""
        while self._mountpoints:
            unmount(self._mountpoints.pop())
        while self._started:
            started = self._started[-1]
            _end(started)
            self._started.pop()
        self._holder = None

    def _inside(self) -> list[str]:
        if self._holder is None:
            return [*_EQUAL_PRIORITY]
        return ["nsenter", f"--net=/proc/{self._holder}/ns/net", "--", *_EQUAL_PRIORITY]

    def _spawn(
        self, name: str, command: Sequence[str], stop_signal: signal.Signals = signal.SIGTERM
    ) -> int:
        with self._log_path(name).open("ab") as log:
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self._directory,
                    env=self._environment,
                    start_new_session=True,  # ^C is for the benchmark, which then stops them
                )
            except OSError as error:
                raise RivalError(f"{self._rival}: {name}: {error}") from None
        self._started.append(_Started(name, process, stop_signal))
        return process.pid

    def _log_path(self, name: str) -> Path:
        return self._directory / f"{name}.log"


def last_line(text: str) -> str:
    """The last line that says anything; empty if there is none."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Without reaping it: until then nobody else can be given its id, and it can be signalled."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end(started: _Started) -> None:
    process = started.process
    assert process.returncode is None, "reaped here only"
    os.kill(process.pid, started.stop_signal)
    deadline_s = time.monotonic() + END_PATIENCE_S
    while not _has_ended(process) and time.monotonic() < deadline_s:
        time.sleep(POLL_S)
    # Children that outlive it: they are in the group that `start_new_session` made.
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    _wait_for_group(process.pid)


def _wait_for_group(group: int) -> None:
    """What was killed may still be writing for a moment."""
    deadline_s = time.monotonic() + END_PATIENCE_S
    while _is_group_alive(group) and time.monotonic() < deadline_s:
        time.sleep(POLL_S)


def _is_group_alive(group: int) -> bool:
    """Whether any process of it runs. One that only waits to be reaped (proc_pid_stat(5)) does
    not: that may take its new parent for ever.
    """
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(its_group) == group and state not in ("Z", "X"):
            return True
    return False
