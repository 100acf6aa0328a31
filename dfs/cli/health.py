"""What a status reply means: is the cluster well, and if not, what is wrong, in words. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from dfs.core import space
from dfs.core.placement import GROUP_COUNT, GroupId, servers_for_group
from dfs.types import ServerState, SpaceUsage

if TYPE_CHECKING:
    from dfs.core.messages import StatusReply
    from dfs.types import ClusterMap

FULL_FRACTION = 0.95


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on a cluster."""

    is_healthy: bool
    problems: tuple[str, ...]
    servers_up: int
    servers_known: int
    """Those that are out are not counted."""
    groups: int
    groups_degraded: int
    """Placement groups of which a server that should hold a copy is down."""
    usable_bytes: int
    """What files could take if nothing were stored: raw capacity divided by copies."""
    free_bytes: int
    """What files may still take."""


def health_of(status: StatusReply) -> Health:
    cluster_map = status.cluster_map
    known = [s for s in cluster_map.servers if s.state is not ServerState.OUT]
    up_count = sum(server.state is ServerState.UP for server in known)
    space = total_space(status)
    degraded = degraded_groups(cluster_map)
    problems = tuple(_problems(status, up_count, len(known), degraded, space))
    return Health(
        is_healthy=not problems,
        problems=problems,
        servers_up=up_count,
        servers_known=len(known),
        groups=GROUP_COUNT,
        groups_degraded=degraded,
        usable_bytes=space.capacity_bytes // cluster_map.copies,
        free_bytes=space.free_bytes // cluster_map.copies,
    )


def _problems(
    status: StatusReply, up_count: int, known_count: int, degraded: int, space: SpaceUsage
) -> list[str]:
    copies, least = status.cluster_map.copies, status.cluster_map.min_copies
    problems = []
    if up_count < known_count:
        problems.append(f"{known_count - up_count} of {known_count} chunk servers are down")
    if up_count < least:
        problems.append(f"nothing can be written: {up_count} chunk servers up, {least} needed")
    elif up_count < copies:
        problems.append(f"only {up_count} chunk servers up for {copies} copies")
    if degraded:
        problems.append(f"{degraded} of {GROUP_COUNT} placement groups lack a copy")
    if space.capacity_bytes and space.free_bytes < (1 - FULL_FRACTION) * space.capacity_bytes:
        problems.append("almost full")
    return problems


def total_space(status: StatusReply) -> SpaceUsage:
    """Of the servers that are not out and have reported; a shared disk counts once."""
    return space.total_space(
        one.space
        for one in status.servers
        if one.space is not None and one.server.state is not ServerState.OUT
    )


def degraded_groups(cluster_map: ClusterMap) -> int:
    """How many placement groups have a down server among those that hold their copies."""
    down = {s.server_id for s in cluster_map.servers if s.state is ServerState.DOWN}
    if not down:
        return 0
    as_if_up = msgspec.structs.replace(
        cluster_map,
        servers=tuple(
            msgspec.structs.replace(s, state=ServerState.UP) if s.server_id in down else s
            for s in cluster_map.servers
        ),
    )
    count = 0
    for group in range(GROUP_COUNT):
        holders = servers_for_group(GroupId(group), as_if_up)[: cluster_map.copies]
        count += any(server.server_id in down for server in holders)
    return count
