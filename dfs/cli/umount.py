"""`dfs umount`."""

from __future__ import annotations

import errno
import os
import signal
import time

import click

from dfs.background import open_process, send_signal, wait_for_end
from dfs.cli.output import progress_line
from dfs.cli.target import ask_mount
from dfs.errors import UserError
from dfs.mount.trace import read_trace, remove_trace
from dfs.mountpoint import (
    FILESYSTEM_TYPE,
    MountEntry,
    find_mount,
    in_use_message,
    is_stale,
    mount_of,
    real_path,
    take_off,
)

LINGER_S = 2.0
"""Another mount namespace may keep the kernel from telling the process: then we do."""
PATIENCE_S = 300.0


@click.command()
@click.argument("mountpoint")
@click.option("-l", "--lazy", "is_lazy", is_flag=True, help="Detach it even while it is in use.")
def command(mountpoint: str, is_lazy: bool) -> None:
    """Unmount. Returns when everything is durable and the mount's process has ended."""
    path = real_path(mountpoint)
    _checked_entry(path)
    if is_stale(path):
        take_off(path, is_lazy=True)
        click.echo(f"{path}: its process had died; the dead mount is taken off")
        return
    answer = ask_mount(path)
    if answer is None:
        raise UserError(f"{path}: does not answer as a dfs mount does")
    with progress_line("unmounting"):
        _unmount(path, answer.pid, is_lazy=is_lazy)


def _checked_entry(path: str) -> MountEntry:
    entry = find_mount(path)
    if entry is not None and entry.filesystem_type == FILESYSTEM_TYPE:
        return entry
    if entry is not None:
        raise UserError(f"{path}: not a dfs mount but {entry.filesystem_type}")
    if not os.path.lexists(path):
        raise UserError(f"{path}: no such directory")
    holder = mount_of(path)
    hint = (
        f"; the mount point is {holder.path}" if holder.filesystem_type == FILESYSTEM_TYPE else ""
    )
    raise UserError(f"{path}: not a mount point{hint}")


def _unmount(path: str, pid: int, *, is_lazy: bool) -> None:
    pidfd = open_process(pid)
    try:
        take_off(path, is_lazy=is_lazy)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise UserError(in_use_message(path, f"dfs umount --lazy {path}")) from None
        raise UserError(f"{path}: {error.strerror}") from None
    if pidfd is not None:
        _wait_for_process(path, pid, pidfd)
    trace = read_trace(pid)
    if trace is not None:
        remove_trace(pid)
        raise UserError(f"{path}: not everything became durable: {trace.error or 'it was killed'}")


def _wait_for_process(path: str, pid: int, pidfd: int) -> None:
    started_s = time.monotonic()
    if wait_for_end(pidfd, LINGER_S):
        return
    send_signal(pidfd, signal.SIGTERM)
    if not wait_for_end(pidfd, PATIENCE_S):
        waited_s = time.monotonic() - started_s
        raise UserError(f"{path}: process {pid} is still flushing after {waited_s:.0f} s")
