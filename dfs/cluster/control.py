"""`dfs up` and `dfs down`, seen from the command: start or find the supervisor, wait until all is
well, stop all.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import trio

from dfs.background import open_process, send_signal, start_in_background, wait_for_end
from dfs.cluster.directory import (
    MOUNT_ROLE,
    ClusterDirectory,
    ClusterSettings,
    ClusterState,
    agreed_settings,
)
from dfs.cluster.health import missing_parts
from dfs.cluster.parts import surviving_processes
from dfs.cluster.supervisor import stop_survivors
from dfs.errors import UserError
from dfs.mountpoint import check_mountpoint, find_mount, in_use_message, is_stale, users_of

if TYPE_CHECKING:
    from collections.abc import Callable

UP_PATIENCE_S = 90.0
DOWN_PATIENCE_S = 300.0
POLL_S = 0.05
FAILURES_MAX = 3
"""A part that failed this often in a row will not get well by waiting."""


class UpReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `dfs up` did."""

    directory: str
    mountpoint: str
    address: str
    """The metadata server's."""
    chunk_servers: int
    copies: int
    is_new: bool
    """False: it was running already, and nothing was done."""


class DownReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `dfs down` did."""

    directory: str
    was_running: bool
    problems: tuple[str, ...] = ()


def up(
    directory: ClusterDirectory,
    *,
    mountpoint: str | None,
    chunk_servers: int | None,
    copies: int | None,
    progress: Callable[[str], None],
) -> UpReport:
    """Start what is not running, and return when the mount answers and all servers are up.

    Raises UserError; then whatever was started by this call is stopped again.
    """
    settings = agreed_settings(
        directory, mountpoint=mountpoint, chunk_servers=chunk_servers, copies=copies
    )
    was_running = directory.is_running
    if was_running:
        _refuse_changes(directory, settings)
        is_new = not _is_healthy(directory, settings)
        if is_new:
            _start_ended_parts(directory)
    else:
        is_new = True
        _start(directory, settings)
    if is_new:
        _wait_or_undo(directory, settings, progress, is_undone=not was_running)
    return UpReport(
        directory=str(directory.top),
        mountpoint=settings.mountpoint,
        address=directory.meta_address,
        chunk_servers=settings.chunk_servers,
        copies=settings.copies,
        is_new=is_new,
    )


def _start(directory: ClusterDirectory, settings: ClusterSettings) -> None:
    Path(settings.mountpoint).mkdir(parents=True, exist_ok=True)
    if MOUNT_ROLE not in surviving_processes(directory) and not is_stale(settings.mountpoint):
        check_mountpoint(settings.mountpoint, is_nonempty_fine=False)
    directory.write_settings(settings)
    directory.make_run_directories()
    arguments = ["supervise", "--dir", str(directory.top)]
    start_in_background(arguments, directory.log("supervisor"))


def _refuse_changes(directory: ClusterDirectory, wanted: ClusterSettings) -> None:
    running = directory.read_settings()
    if wanted.mountpoint != running.mountpoint:
        raise UserError(
            f"{directory.top} is already running, mounted on {running.mountpoint}; "
            f"mount it a second time: dfs mount {directory.top} {wanted.mountpoint}"
        )
    if wanted != running:
        raise UserError(
            f"{directory.top} is already running with {running.chunk_servers} chunk servers; "
            f"stop it first: dfs down --dir {directory.top}"
        )


def _start_ended_parts(directory: ClusterDirectory) -> None:
    state = directory.read_state()
    pidfd = open_process(state.supervisor) if state and state.supervisor else None
    if pidfd is not None:
        send_signal(pidfd, signal.SIGHUP)


def _wait_or_undo(
    directory: ClusterDirectory,
    settings: ClusterSettings,
    progress: Callable[[str], None],
    *,
    is_undone: bool,
) -> None:
    try:
        _wait_until_healthy(directory, settings, progress)
    except BaseException:
        if is_undone:
            down(directory, is_lazy=True, progress=lambda _: None)
        raise


def _wait_until_healthy(
    directory: ClusterDirectory, settings: ClusterSettings, progress: Callable[[str], None]
) -> None:
    deadline_s = time.monotonic() + UP_PATIENCE_S
    while lacking := missing_parts(directory, settings):
        progress("waiting for " + ", ".join(lacking))
        state = directory.read_state()
        for part in state.parts if state else ():
            if part.failures >= FAILURES_MAX:
                raise UserError(f"{part.role} does not start: {_plain(part.problem)}")
        if time.monotonic() > deadline_s:
            problem = f"after {UP_PATIENCE_S:g} s still no {', '.join(lacking)}"
            raise UserError(f"{problem}; see the logs in {directory.top / 'log'}")
        time.sleep(POLL_S)


def _plain(problem: str) -> str:
    return problem.removeprefix("dfs: ") or "it says nothing"


def _is_healthy(directory: ClusterDirectory, settings: ClusterSettings) -> bool:
    return not missing_parts(directory, settings)


def down(
    directory: ClusterDirectory, *, is_lazy: bool, progress: Callable[[str], None]
) -> DownReport:
    """Flush, unmount and stop everything; returns when all processes have ended.

    Raises UserError, with nothing done, when the mount is in use (unless `is_lazy`).
    """
    settings = directory.read_settings()
    if not is_lazy and find_mount(settings.mountpoint) and users_of(settings.mountpoint):
        raise UserError(in_use_message(settings.mountpoint, "dfs down --lazy"))
    if directory.is_running:
        progress("flushing and stopping")
        return _stop_supervisor(directory)
    if not surviving_processes(directory):
        return DownReport(directory=str(directory.top), was_running=False)
    problems = trio.run(stop_survivors, directory)
    return DownReport(directory=str(directory.top), was_running=True, problems=tuple(problems))


def _stop_supervisor(directory: ClusterDirectory) -> DownReport:
    state = _state_with_supervisor(directory)
    pidfd = open_process(state.supervisor)
    if pidfd is not None:
        send_signal(pidfd, signal.SIGTERM)
        if not wait_for_end(pidfd, DOWN_PATIENCE_S):
            raise UserError(f"{directory.top}: not stopped after {DOWN_PATIENCE_S:g} s")
    final = directory.read_state()
    problems = final.problems if final else ()
    return DownReport(directory=str(directory.top), was_running=True, problems=problems)


def _state_with_supervisor(directory: ClusterDirectory) -> ClusterState:
    """A supervisor that has just taken the lock writes its state a moment later."""
    deadline_s = time.monotonic() + 5
    while True:
        state = directory.read_state()
        if state is not None and state.supervisor:
            return state
        if time.monotonic() > deadline_s:
            raise UserError(f"{directory.state_path}: does not name the supervisor")
        time.sleep(POLL_S)
