"""The servers of a stopped local cluster, running for as long as somebody looks at it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from dfs.background import last_line
from dfs.cluster.directory import META_ROLE, MOUNT_ROLE, roles
from dfs.cluster.health import ask_status, count_up
from dfs.cluster.parts import Process, stop_in_order, surviving_processes
from dfs.errors import UserError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dfs.cluster.directory import ClusterDirectory, ClusterSettings

PATIENCE_S = 30.0
POLL_S = 0.05


@asynccontextmanager
async def running_servers(directory: ClusterDirectory) -> AsyncIterator[None]:
    """Metadata server and chunk servers run inside the block, but no mount.

    A cluster that runs already is left alone. A chunk server that cannot start is left out, for the
    check to report; raises UserError if the metadata server cannot.
    """
    if directory.is_running:
        yield
        return
    settings = directory.read_settings()
    directory.make_run_directories()
    lock = directory.lock()
    if lock is None:
        raise UserError(f"{directory.top}: is just being started; try again")
    with lock:
        processes = surviving_processes(directory)
        try:
            await _start(directory, processes, META_ROLE, settings)
            for role in roles(settings):
                if role not in (META_ROLE, MOUNT_ROLE):
                    await _start(directory, processes, role, settings)
            await _until_settled(directory, processes, settings.chunk_servers)
            yield
        finally:
            with trio.CancelScope(shield=True):
                await stop_in_order(processes)


async def _start(
    directory: ClusterDirectory,
    processes: dict[str, Process],
    role: str,
    settings: ClusterSettings,
) -> None:
    """Start what does not run yet; a metadata server is waited for."""
    if role in processes:
        return
    arguments = directory.part_arguments(role, settings)
    processes[role] = Process.start(directory, role, arguments)
    if role != META_ROLE:
        return
    deadline_s = trio.current_time() + PATIENCE_S
    while await ask_status(directory.meta_address) is None:
        if processes[role].has_ended or trio.current_time() > deadline_s:
            raise UserError(f"the metadata server does not start: {_words(directory, role)}")
        await trio.sleep(POLL_S)


async def _until_settled(
    directory: ClusterDirectory, processes: dict[str, Process], wanted_servers: int
) -> None:
    """Return when every chunk server is up or has given up; at the latest when patience ends."""
    with trio.move_on_after(PATIENCE_S):
        while True:
            ended = sum(one.has_ended for role, one in processes.items() if role != META_ROLE)
            status = await ask_status(directory.meta_address)
            if status is not None and count_up(status) >= wanted_servers - ended:
                return
            await trio.sleep(POLL_S)


def _words(directory: ClusterDirectory, role: str) -> str:
    return last_line(directory.log(role)).removeprefix("dfs: ") or "it says nothing"
