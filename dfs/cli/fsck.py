"""`dfs fsck`."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import click
import trio

from dfs.cli.connection import first_status
from dfs.cli.output import json_option, print_json, progress_bar
from dfs.cli.target import Target, local_target, resolve_target
from dfs.cli.up import default_directory
from dfs.cluster.directory import ClusterDirectory, running_clusters
from dfs.rpc.transport import system_environment

if TYPE_CHECKING:
    from dfs.fsck.report import Progress, Report


@click.command()
@click.argument("target", required=False)
@click.option("--repair", "is_repairing", is_flag=True, help="Mend what is safe to mend.")
@click.option("--verify-data", is_flag=True, help="Read and hash every copy of every block.")
@json_option
def command(target: str | None, is_repairing: bool, verify_data: bool, is_json: bool) -> int:
    """Check every invariant of a cluster: records, reference counts, blocks and their copies.

    The cluster may be in use. A local cluster that is stopped is checked as well: its servers run
    for the time of the check. Exit status 1 if errors are left.
    """
    found = _found(target)
    with progress_bar("checking") as move:

        def progress(phase: str, done: int, total: int | None) -> None:
            move(phase, done, total or 0)

        report = trio.run(_check, found, verify_data, is_repairing, progress)
    if is_json:
        print_json({"target": found.name, "is_clean": report.is_clean, "report": report})
    else:
        _print_for_people(found.name, report, verify_data=verify_data)
    return 0 if report.is_clean else 1


def _found(target: str | None) -> Target:
    """As every command's TARGET; without one, also a stopped cluster in the usual place."""
    default = ClusterDirectory(default_directory())
    if target is None and not running_clusters() and default.exists:
        return local_target(default)
    return resolve_target(target)


async def _check(
    found: Target, verify_data: bool, is_repairing: bool, progress: Progress
) -> Report:
    from dfs.cluster.temporary import running_servers
    from dfs.fsck.check import check_cluster

    async with AsyncExitStack() as stack:
        if found.local is not None:
            await stack.enter_async_context(running_servers(found.local))
        environment = system_environment()
        await first_status(environment, found.addresses)
        return await check_cluster(
            environment,
            found.addresses,
            verify_data=verify_data,
            repair=is_repairing,
            progress=progress,
        )


def _print_for_people(name: str, report: Report, *, verify_data: bool) -> None:
    for problem in report.problems:
        kind = "error" if problem.is_error else "warning"
        click.echo(f"{kind}: {problem.subject}: {problem.message} ({problem.check})")
    for done in report.repaired:
        click.echo(f"repaired: {done}")
    for server in report.unreachable:
        click.echo(f"warning: chunk server {server}; nothing is known of its copies")
    verified = f", {report.verified_copies} of them read and verified" if verify_data else ""
    click.echo(
        f"{name}: {report.inodes} inodes ({report.directories} directories), "
        f"{report.extents} extents, {report.blocks} blocks in {report.copies} copies{verified}"
    )
    click.echo("clean" if report.is_clean else f"{report.error_count} errors")
