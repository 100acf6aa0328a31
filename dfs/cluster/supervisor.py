"""The supervisor of a local cluster: one process in the background that keeps the others running.

    part's phase   means                                    leaves when
    waiting        not started yet, or between attempts     back-off over → running
    running        the process lives                        exit 0 → ended; any other end → waiting
    ended          it ended on purpose (umount, SIGTERM)    SIGHUP (`dfs up`) → running

SIGTERM stops all parts in order and ends. Killed with SIGKILL, it leaves its parts running; the
next supervisor takes them over (`parts.py`).
"""

from __future__ import annotations

import logging
import os
import signal
import time
from typing import TYPE_CHECKING

import msgspec
import trio

from dfs.background import last_line
from dfs.cluster.directory import (
    META_ROLE,
    ClusterDirectory,
    ClusterSettings,
    ClusterState,
    PartState,
    replace_file,
    roles,
)
from dfs.cluster.parts import Process, stop_in_order, surviving_processes
from dfs.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

BACKOFF_MIN_S = 0.2
BACKOFF_MAX_S = 5.0
STEADY_AFTER_S = 10.0
"""A part that ran this long starts again at once when it fails."""
META_POLL_S = 0.05


class Supervisor:
    """Owns every part's process and DIR/run/state.json."""

    def __init__(self, directory: ClusterDirectory, settings: ClusterSettings) -> None:
        self._directory = directory
        self._settings = settings
        self._states = {role: PartState(role=role) for role in roles(settings)}
        self._processes: dict[str, Process] = {}
        self._start_again = trio.Event()
        self._is_stopping = False

    async def run(self, *, tell_ready: Callable[[], None]) -> list[str]:
        """Keep all parts running until SIGTERM or SIGINT. Returns what went wrong at the end."""
        self._processes = surviving_processes(self._directory)
        for role in self._processes:
            log.info("%s still runs: taken over", role)
        async with trio.open_nursery() as nursery:
            with trio.open_signal_receiver(
                signal.SIGTERM, signal.SIGINT, signal.SIGHUP
            ) as arrivals:
                for role in self._states:
                    nursery.start_soon(self._keep, role)
                self._write_state()
                tell_ready()
                async for number in arrivals:
                    if number != signal.SIGHUP:
                        break
                    self._start_again.set()
                    self._start_again = trio.Event()
            self._is_stopping = True
            self._write_state()
            nursery.cancel_scope.cancel()
        problems = await stop_in_order(self._processes)
        self._write_state(problems=problems, is_over=True)
        return problems

    async def _keep(self, role: str) -> None:
        """Run one part, again and again."""
        failures = 0
        while True:
            await self._run_once(role)
            process = self._processes[role]
            status = await process.wait()
            lived_s = time.monotonic() - process.started_s
            del self._processes[role]
            process.close()
            if status == 0:
                failures = 0
                await self._rest(role)
                continue
            is_killed = status is None or status < 0
            failures = failures if is_killed else 1 if lived_s > STEADY_AFTER_S else failures + 1
            problem = last_line(self._directory.log(role))
            log.warning("%s ended unasked (status %s): %s", role, status, problem)
            self._note(role, pid=0, phase="waiting", failures=failures, problem=problem)
            await trio.sleep(0 if lived_s > STEADY_AFTER_S else backoff_s(failures))

    async def _run_once(self, role: str) -> None:
        """Afterwards the part has a process."""
        if role not in self._processes:
            if role != META_ROLE:
                await self._meta_listens()
            arguments = self._directory.part_arguments(role, self._settings)
            self._processes[role] = Process.start(self._directory, role, arguments)
        self._note(role, pid=self._processes[role].pid, phase="running")

    async def _rest(self, role: str) -> None:
        """It ended on purpose: wait until somebody wants it again."""
        log.info("%s ended on purpose", role)
        self._note(role, pid=0, phase="ended", failures=0, problem="")
        await self._start_again.wait()

    async def _meta_listens(self) -> None:
        path = self._directory.meta_address.removeprefix("unix:")
        while True:
            try:
                stream = await trio.open_unix_socket(path)
            except OSError:
                await trio.sleep(META_POLL_S)
            else:
                await stream.aclose()
                return

    def _note(self, role: str, **changes: object) -> None:
        self._states[role] = msgspec.structs.replace(self._states[role], **changes)
        self._write_state()

    def _write_state(self, *, problems: list[str] | None = None, is_over: bool = False) -> None:
        state = ClusterState(
            supervisor=0 if is_over else os.getpid(),
            parts=() if is_over else tuple(self._states.values()),
            is_stopping=self._is_stopping,
            problems=tuple(problems or ()),
        )
        replace_file(self._directory.state_path, msgspec.json.encode(state))


def backoff_s(failures: int) -> float:
    """Seconds until the next attempt. A part that was killed has not failed: failures stay 0."""
    assert failures >= 0
    doublings = max(0, min(failures, 10) - 1)
    return min(BACKOFF_MIN_S * float(1 << doublings), BACKOFF_MAX_S)


def supervise(directory: ClusterDirectory, *, tell_ready: Callable[[], None]) -> list[str]:
    """Be the supervisor of `directory` until told to stop. Returns what went wrong at the end.

    Raises UserError if there is one already.
    """
    settings = directory.read_settings()
    directory.make_run_directories()
    lock = directory.lock()
    if lock is None:
        raise UserError(f"{directory.top}: already running")
    registry = directory.registry_path
    with lock:
        registry.parent.mkdir(parents=True, exist_ok=True)
        replace_file(registry, msgspec.json.encode(str(directory.top)))
        try:
            supervisor = Supervisor(directory, settings)
            return trio.run(lambda: supervisor.run(tell_ready=tell_ready))
        finally:
            registry.unlink(missing_ok=True)


async def stop_survivors(directory: ClusterDirectory) -> list[str]:
    """Stop the parts that outlived their supervisor. Returns what went wrong."""
    processes = surviving_processes(directory)
    problems = await stop_in_order(processes)
    state = ClusterState(supervisor=0, problems=tuple(problems))
    replace_file(directory.state_path, msgspec.json.encode(state))
    return problems
