"""`dfs down`."""

from __future__ import annotations

import click

from dfs.cli.output import json_option, print_json, progress_line
from dfs.cli.target import resolve_target
from dfs.cli.up import default_directory
from dfs.cluster.control import down
from dfs.cluster.directory import ClusterDirectory, running_clusters
from dfs.errors import UserError


@click.command()
@click.option(
    "--dir", "directory", metavar="DIR", help="The cluster's directory (the only one that runs)."
)
@click.option("--lazy", "is_lazy", is_flag=True, help="Detach the mount even while it is in use.")
@json_option
def command(directory: str | None, is_lazy: bool, is_json: bool) -> int:
    """Flush, unmount and stop a cluster that `dfs up` started.

    Returns when everything is durable and all its processes have ended.
    """
    chosen = _chosen(directory)
    with progress_line("stopping") as progress:
        report = down(chosen, is_lazy=is_lazy, progress=progress)
    if is_json:
        print_json(report)
    elif not report.was_running:
        click.echo(f"dfs was not running in {report.directory}")
    else:
        click.echo(f"dfs is stopped; dfs up --dir {report.directory} brings it back")
    for problem in report.problems:
        click.echo(f"dfs: {problem}; see {chosen.log('supervisor').parent}", err=True)
    return 1 if report.problems else 0


def _chosen(directory: str | None) -> ClusterDirectory:
    if directory is not None:
        return ClusterDirectory(directory)
    default = ClusterDirectory(default_directory())
    if not running_clusters() and default.exists:
        return default
    local = resolve_target(None).local
    if local is None:
        raise UserError("no local cluster runs on this machine")
    return local
