"""Other processes of dfs: how they are started, how they say that they are ready, how one waits for
their end.

A process started in the background tells its parent over a pipe, in one JSON line, that it is ready
or why it is not. So the parent's exit status and message are true.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

import dfs
from dfs.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TAIL_BYTES = 4096
RUNTIME_VARIABLE = "DFS_RUNTIME_DIR"
LOG_VARIABLE = "DFS_LOG_DIR"


class ReadyLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a child says once: nothing in `error` means that it is ready."""

    error: str = ""
    exit_status: int = 1


def dfs_command(*arguments: str) -> list[str]:
    """The command line that runs this same dfs with `arguments`."""
    return [sys.executable, "-P", "-m", "dfs", *arguments]


def dfs_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment in which `dfs_command` finds this same dfs from any directory."""
    top = str(Path(dfs.__file__).resolve().parent.parent)
    known = os.environ.get("PYTHONPATH")
    path = top if not known else known if known.split(":")[0] == top else f"{top}:{known}"
    return {**os.environ, "PYTHONPATH": path, **(extra or {})}


def spawn(
    arguments: Sequence[str],
    log_path: Path,
    *,
    extra_environment: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start dfs with `arguments` in a session of its own, output appended to `log_path`."""
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("ab") as log_file:
        return subprocess.Popen(
            dfs_command(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=log_file,
            stderr=log_file,
            cwd="/",
            env=dfs_environment(extra_environment),
            pass_fds=pass_fds,
            start_new_session=True,
        )


def start_in_background(arguments: Sequence[str], log_path: Path) -> int:
    """Start dfs with `arguments` (which must accept --ready-fd); returns its pid once it is ready.

    Raises UserError with the child's own words if it fails.
    """
    reading, writing = os.pipe()
    try:
        command = [*arguments, "--ready-fd", str(writing)]
        child = spawn(command, log_path, pass_fds=[writing])
    finally:
        os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        line = pipe.readline()
    if not line:
        child.wait()
        raise UserError(f"{arguments[0]} ended before it was ready; its log: {log_path}")
    said = msgspec.json.decode(line, type=ReadyLine)
    if said.error:
        child.wait()
        raise UserError(said.error, exit_status=said.exit_status)
    child.returncode = 0  # it goes on without us: Popen must not complain about it
    return child.pid


def tell_parent(ready_fd: int | None, line: ReadyLine) -> None:
    """Say it once over the pipe and close it. Nothing happens without a pipe or a listener."""
    if ready_fd is None:
        return
    with contextlib.suppress(OSError):
        os.write(ready_fd, msgspec.json.encode(line) + b"\n")
    with contextlib.suppress(OSError):
        os.close(ready_fd)


def open_process(pid: int) -> int | None:
    """A pidfd (pidfd_open(2)), readable once the process has ended; None if there is none."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def wait_for_end(pidfd: int, timeout_s: float) -> bool:
    """Whether the process has ended within the time."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(max(0.0, timeout_s) * 1000))


def send_signal(pidfd: int, number: signal.Signals) -> None:
    """Signal exactly this process; one that has ended is left in peace."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, number)


def last_line(log_path: Path) -> str:
    """The last non-empty line of a log, or nothing."""
    try:
        with log_path.open("rb") as log_file:
            log_file.seek(max(0, log_path.stat().st_size - TAIL_BYTES))
            lines = log_file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def runtime_directory() -> Path:
    """Where running things leave their traces: gone after a reboot, this user's own.

    DFS_RUNTIME_DIR overrides it, for clusters that must not see each other.
    """
    if chosen := os.environ.get(RUNTIME_VARIABLE):
        return Path(chosen)
    if os.geteuid() == 0:
        return Path("/run/dfs")
    chosen = os.environ.get("XDG_RUNTIME_DIR")
    return Path(chosen) / "dfs" if chosen else Path(f"/tmp/dfs-{os.geteuid()}")


def log_directory() -> Path:
    """Where processes log that belong to no local cluster; DFS_LOG_DIR overrides it."""
    if chosen := os.environ.get(LOG_VARIABLE):
        return Path(chosen)
    if os.geteuid() == 0:
        return Path("/var/log/dfs")
    chosen = os.environ.get("XDG_STATE_HOME")
    return (Path(chosen) if chosen else Path.home() / ".local/state") / "dfs"
