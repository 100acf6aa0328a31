"""`dfs mount`."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import click
import trio

from dfs.background import ReadyLine, log_directory, start_in_background, tell_parent
from dfs.cli.connection import first_status
from dfs.cli.logs import log_to_stderr
from dfs.cli.ready import telling_parent
from dfs.cli.target import Target, resolve_target, split_subdirectory
from dfs.config import MountConfig
from dfs.mountpoint import real_path
from dfs.rpc.transport import system_environment


@click.command()
@click.argument("target", metavar="TARGET[:/SUBDIR]")
@click.argument("mountpoint")
@click.option("-o", "options", multiple=True, metavar="OPT,...", help="Mount options, as in fstab.")
@click.option("--foreground", is_flag=True, help="Stay in the foreground, log to stderr.")
@click.option("--log", "log_path", metavar="FILE", help="Log of the background process.")
@click.option("--ready-fd", type=int, hidden=True)
def command(
    target: str,
    mountpoint: str,
    options: tuple[str, ...],
    foreground: bool,
    log_path: str | None,
    ready_fd: int | None,
) -> None:
    """Mount a volume, or a directory of it. Returns when the mount answers.

    TARGET is an address of its metadata server (HOST:PORT, several with commas), a mount point of
    the same volume, or a local cluster's directory. The same options work as

    mount -t dfs TARGET MOUNTPOINT -o OPT,... and in /etc/fstab:
    meta1:7400 /mnt/dfs dfs defaults,_netdev,nofail 0 0

    Options: ro, allow_other (root's default), nonempty, noatime, nosuid, nodev, noexec, sync,
    max_read=N.
    """
    if foreground:
        with telling_parent(ready_fd):
            _serve(target, mountpoint, ",".join(options), ready_fd)
    else:
        mount_in_background(target, mountpoint, ",".join(options), log_path)


def mount_in_background(target: str, mountpoint: str, options: str, log_path: str | None) -> None:
    """Start the process that serves the mount; returns when it does. Raises UserError."""
    place = real_path(mountpoint)
    name, subdirectory = split_subdirectory(target)
    if os.path.lexists(name):
        name = os.path.abspath(name)
    whole = name if subdirectory == "/" else f"{name}:{subdirectory}"
    log = Path(os.path.abspath(log_path)) if log_path else default_log(place)
    arguments = ["mount", whole, place, "--foreground", "--log", str(log)]
    start_in_background([*arguments, *(["-o", options] if options else [])], log)


def default_log(mountpoint: str) -> Path:
    return log_directory() / f"mount{mountpoint.replace('/', '-')}.log"


def _serve(target: str, mountpoint: str, options: str, ready_fd: int | None) -> None:
    from dfs.mount.main import run_mount
    from dfs.mount.options import parse_options

    log_to_stderr()
    parse_options(options)
    name, subdirectory = split_subdirectory(target)
    found = resolve_target(name)
    config = _config(target, found, subdirectory, mountpoint, options)
    environment = system_environment()
    trio.run(first_status, environment, config.addresses)
    said = partial(tell_parent, ready_fd, ReadyLine())
    trio.run(partial(run_mount, config, environment, tell_ready=said))


def _config(
    target: str, found: Target, subdirectory: str, mountpoint: str, options: str
) -> MountConfig:
    return MountConfig(
        addresses=found.addresses,
        mountpoint=real_path(mountpoint),
        subdirectory=subdirectory,
        source=target,
        options=options,
        local_cluster=str(found.local.top) if found.local else "",
    )
