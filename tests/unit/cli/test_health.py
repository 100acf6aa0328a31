"""Goal: the verdict on a cluster follows from its status alone, and names every problem."""

from __future__ import annotations

import msgspec

from dfs.cli.health import degraded_groups, health_of
from dfs.core.messages import ServerStatus, StatusReply
from dfs.core.placement import GROUP_COUNT
from dfs.limits import GIB
from dfs.types import (
    ChunkServer,
    ClusterId,
    ClusterMap,
    MapEpoch,
    ServerId,
    ServerState,
    SpaceUsage,
    VolumeSettings,
)

UP, DOWN, OUT = ServerState.UP, ServerState.DOWN, ServerState.OUT


def status_of(*states: ServerState, copies: int = 2, free_gib: int = 50) -> StatusReply:
    """A cluster of servers of 100 GiB in these states."""
    servers = tuple(
        ChunkServer(ServerId(f"{n:016x}"), f"h{n}:1", f"z{n}", 100.0, state)
        for n, state in enumerate(states)
    )
    space = SpaceUsage(100 * GIB, (100 - free_gib) * GIB, free_gib * GIB)
    return StatusReply(
        settings=VolumeSettings(ClusterId("c" * 32), 1 << 20),
        cluster_map=ClusterMap(MapEpoch(1), servers, copies=copies, min_copies=1),
        servers=tuple(ServerStatus(server, space, 5, 0.5) for server in servers),
        sessions=(),
        inode_count=1,
        stored_bytes=0,
        orphan_count=0,
        garbage_count=0,
        version="1",
        uptime_s=1.0,
    )


def test_all_well() -> None:
    health = health_of(status_of(UP, UP, UP))
    assert health.is_healthy
    assert health.usable_bytes == 150 * GIB
    assert health.free_bytes == 75 * GIB
    assert (health.servers_up, health.servers_known, health.groups_degraded) == (3, 3, 0)


def test_a_server_that_is_down_is_named_with_what_it_means() -> None:
    health = health_of(status_of(UP, DOWN, UP))
    assert not health.is_healthy
    assert "1 of 3 chunk servers are down" in health.problems
    assert 0.5 * GROUP_COUNT < health.groups_degraded < 0.85 * GROUP_COUNT
    alone = health_of(status_of(UP, DOWN))
    assert any("only 1 chunk servers up for 2 copies" in problem for problem in alone.problems)
    nothing = health_of(status_of(DOWN, DOWN))
    assert any("nothing can be written" in problem for problem in nothing.problems)


def test_servers_that_are_out_do_not_count() -> None:
    health = health_of(status_of(UP, UP, OUT))
    assert health.is_healthy
    assert health.servers_known == 2
    assert health.usable_bytes == 100 * GIB
    assert degraded_groups(status_of(UP, UP, OUT).cluster_map) == 0


def test_almost_full() -> None:
    assert "almost full" in health_of(status_of(UP, UP, UP, free_gib=1)).problems
    unknown = status_of(UP, UP)
    silent = tuple(msgspec.structs.replace(one, space=None) for one in unknown.servers)
    assert health_of(msgspec.structs.replace(unknown, servers=silent)).is_healthy
