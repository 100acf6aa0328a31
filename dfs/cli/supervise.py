"""`dfs supervise`, hidden: the background process of `dfs up`."""

from __future__ import annotations

import click

from dfs.background import ReadyLine, tell_parent
from dfs.cli.logs import log_to_stderr
from dfs.cli.ready import telling_parent
from dfs.cluster.directory import ClusterDirectory
from dfs.cluster.supervisor import supervise


@click.command(hidden=True)
@click.option("--dir", "directory", required=True)
@click.option("--ready-fd", type=int)
def command(directory: str, ready_fd: int | None) -> int:
    """Keep a local cluster's processes running."""
    log_to_stderr()
    with telling_parent(ready_fd):
        problems = supervise(
            ClusterDirectory(directory), tell_ready=lambda: tell_parent(ready_fd, ReadyLine())
        )
    return 1 if problems else 0
