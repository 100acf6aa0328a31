"""`dfs up`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from dfs.cli.output import json_option, print_json, progress_line
from dfs.cluster.control import UpReport, up
from dfs.cluster.directory import CHUNK_SERVERS_MAX, ClusterDirectory
from dfs.limits import COPIES_MAX
from dfs.mountpoint import real_path


def default_directory() -> str:
    """Where a local cluster lies unless it is said."""
    if os.geteuid() == 0:
        return "/var/lib/dfs"
    chosen = os.environ.get("XDG_DATA_HOME")
    return str((Path(chosen) if chosen else Path.home() / ".local/share") / "dfs")


@click.command()
@click.option(
    "--dir",
    "directory",
    metavar="DIR",
    help="Where everything is kept (/var/lib/dfs; for others than root ~/.local/share/dfs).",
)
@click.option(
    "--mount", "mountpoint", metavar="PATH", help="Mount point (DIR/mnt); made if missing."
)
@click.option(
    "--chunk-servers",
    type=click.IntRange(1, CHUNK_SERVERS_MAX),
    help="How many chunk servers to run (3). More may be added later.",
)
@click.option("--copies", type=click.IntRange(1, COPIES_MAX), help="Copies of every block (2).")
@json_option
def command(
    directory: str | None,
    mountpoint: str | None,
    chunk_servers: int | None,
    copies: int | None,
    is_json: bool,
) -> None:
    """Start a whole cluster on this machine in the background, and mount it.

    A metadata server, chunk servers and a mount, kept running by a supervisor. Run again, it does
    nothing new; after `dfs down`, it brings everything back as it was.
    """
    with progress_line("starting") as progress:
        report = up(
            ClusterDirectory(directory or default_directory()),
            mountpoint=real_path(mountpoint) if mountpoint else None,
            chunk_servers=chunk_servers,
            copies=copies,
            progress=progress,
        )
    if is_json:
        print_json(report)
    else:
        _print_for_people(report)


def _print_for_people(report: UpReport) -> None:
    servers = f"{report.chunk_servers} chunk server" + ("s" if report.chunk_servers > 1 else "")
    copies = f"{report.copies} " + ("copies" if report.copies > 1 else "copy")
    done = "mounted on" if report.is_new else "already running, mounted on"
    click.echo(f"dfs is {done} {report.mountpoint} ({servers}, {copies}, in {report.directory})")
    if report.is_new:
        click.echo("next: use it like any directory; dfs status; dfs fsck; dfs down")
