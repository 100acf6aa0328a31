"""Block id → placement group → chunk servers, best first: the one function that everybody shares.

Nobody records where a block is; writers and readers compute it from the block's name and the
cluster map. Weighted rendezvous hashing: every (group, server) pair has a score of its own, so a
server that comes or goes moves only the groups that it gains or loses, and each server's share is
proportional to its weight. Source: Schindelhauer and Schomaker, "Weighted distributed hash tables"
(SPAA 2005); the score is that of the logarithmic method.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NewType

from blake3 import blake3

from dfs.limits import BLOCK_ID_BYTES, PLACEMENT_GROUP_BITS
from dfs.types import BlockId, ChunkServer, ClusterMap, ServerId, ServerState

GroupId = NewType("GroupId", int)
"""Names a placement group: the first PLACEMENT_GROUP_BITS of a block id."""

GROUP_COUNT = 1 << PLACEMENT_GROUP_BITS
_GROUP_BYTES = (PLACEMENT_GROUP_BITS + 7) // 8
_SCORE_BITS = 52  # so that the middle of every one of its steps is an exact float below 1
_CACHED_ORDERS = 4 * GROUP_COUNT


def group_of(block_id: BlockId) -> GroupId:
    """The placement group of a block, 0 … GROUP_COUNT - 1."""
    assert len(block_id) == BLOCK_ID_BYTES
    prefix = int.from_bytes(block_id[:_GROUP_BYTES], "big")
    group = prefix >> (8 * _GROUP_BYTES - PLACEMENT_GROUP_BITS)
    assert 0 <= group < GROUP_COUNT
    return GroupId(group)


def servers_for(block_id: BlockId, cluster_map: ClusterMap) -> tuple[ChunkServer, ...]:
    """Where a block belongs: every server that is not out, best first; may be empty.

    Servers that are up come before those that are down. Within each of the two, distinct zones come
    first: no zone comes a second time before each has come once, and so on. Writers use the first
    `copies` that answer, readers go on until one has the block.
    """
    return servers_for_group(group_of(block_id), cluster_map)


def servers_for_group(group: GroupId, cluster_map: ClusterMap) -> tuple[ChunkServer, ...]:
    """As `servers_for`, of a whole placement group."""
    assert 0 <= group < GROUP_COUNT
    return _order(group, cluster_map.servers)


@lru_cache(maxsize=_CACHED_ORDERS)
def _order(group: GroupId, servers: tuple[ChunkServer, ...]) -> tuple[ChunkServer, ...]:
    assert len({server.server_id for server in servers}) == len(servers)
    # The id breaks ties, so that the order is the same whatever order the servers came in.
    best_first = sorted(
        servers,
        key=lambda server: (-score(group, server.server_id, server.weight), server.server_id),
    )
    up = [server for server in best_first if server.state is ServerState.UP]
    down = [server for server in best_first if server.state is ServerState.DOWN]
    order = (*_distinct_zones_first(up), *_distinct_zones_first(down))
    assert len(order) == sum(server.state is not ServerState.OUT for server in servers)
    return order


def _distinct_zones_first(best_first: list[ChunkServer]) -> list[ChunkServer]:
    """The best of each zone, then the second of each, and so on; best first within each round."""
    seen: dict[str, int] = {}
    rounds: list[int] = []
    for server in best_first:
        rounds.append(seen.get(server.zone, 0))
        seen[server.zone] = rounds[-1] + 1
    by_round = sorted(zip(rounds, best_first, strict=True), key=lambda pair: pair[0])
    return [server for _, server in by_round]


def score(group: GroupId, server_id: ServerId, weight: float) -> float:
    """How much a group belongs to a server: positive, the highest wins."""
    assert weight > 0
    digest = blake3(group.to_bytes(8, "big") + server_id.encode()).digest(length=8)
    step = int.from_bytes(digest, "big") >> (64 - _SCORE_BITS)
    fraction = (step + 0.5) / (1 << _SCORE_BITS)
    assert 0 < fraction < 1
    return -weight / math.log(fraction)
