"""`dfs status`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import trio

from dfs.cli.connection import first_status
from dfs.cli.health import Health, health_of
from dfs.cli.output import json_option, print_json, print_table, size_text, span_text
from dfs.cli.target import resolve_target
from dfs.rpc.transport import system_environment

if TYPE_CHECKING:
    from dfs.core.messages import ServerStatus, SessionStatus, StatusReply


@click.command()
@click.argument("target", required=False)
@json_option
def command(target: str | None, is_json: bool) -> int:
    """Show servers, capacity, health, placement groups and sessions of a cluster.

    Exit status 1 if something is wrong with it. Of a TARGET on a mount it also says why that mount
    has to do with the slow FUSE loop, if it has.
    """
    found = resolve_target(target)
    status = trio.run(first_status, system_environment(), found.addresses)
    health = health_of(status)
    if is_json:
        print_json(
            {
                "target": found.name,
                "health": health,
                "status": status,
                "slow_because": found.slow_because,
            }
        )
    else:
        _print_for_people(found.name, status, health)
        if found.slow_because:
            click.echo(f"this mount has the slow FUSE loop: {found.slow_because}")
    return 0 if health.is_healthy else 1


def _print_for_people(name: str, status: StatusReply, health: Health) -> None:
    verdict = "healthy" if health.is_healthy else "; ".join(health.problems)
    click.echo(f"{name}: {verdict}")
    click.echo(
        f"  volume   {status.inode_count} inodes, {size_text(status.stored_bytes)} in files, "
        f"{size_text(health.free_bytes)} free of {size_text(health.usable_bytes)}"
    )
    click.echo(
        f"  copies   {status.cluster_map.copies} (at least {status.cluster_map.min_copies} before "
        f"a write counts), blocks up to {size_text(status.settings.block_bytes)}"
    )
    click.echo(f"  groups   {health.groups}, {health.groups_degraded} degraded")
    click.echo(f"  waiting  {status.orphan_count} orphans, {status.garbage_count} garbage blocks")
    click.echo(
        f"  server   dfs {status.version}, up {span_text(status.uptime_s)}, "
        f"cluster {status.settings.cluster_id}, map epoch {status.cluster_map.map_epoch}"
    )
    columns = ["chunk server", "zone", "state", ">used", ">free", ">blocks", ">heard", "address"]
    print_table(columns, [_server_row(one) for one in status.servers])
    if status.sessions:
        columns = [">session", "client", ">open", ">leases", ">heard"]
        print_table(columns, [_session_row(one) for one in status.sessions])


def _server_row(one: ServerStatus) -> list[str]:
    used, free = (one.space.used_bytes, one.space.free_bytes) if one.space else (0, 0)
    return [
        one.server.server_id,
        one.server.zone,
        one.server.state.value,
        size_text(used),
        size_text(free),
        str(one.block_count),
        f"{one.silent_s:.1f} s ago" if one.space else "never",
        one.server.address,
    ]


def _session_row(one: SessionStatus) -> list[str]:
    heard = f"{one.silent_s:.1f} s ago"
    return [str(one.session_id), one.client, str(one.held_count), str(one.lease_count), heard]
