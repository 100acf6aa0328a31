"""Identifiers and value Structs that every part of dfs speaks.

Nothing here has behaviour beyond asserting its own shape. Records of the namespace live in
`core/namespace/records.py`, messages in `core/messages.py`.
"""

from __future__ import annotations

from enum import Enum
from typing import NewType

import msgspec

InodeId = NewType("InodeId", int)
"""Names an inode: `shard << 48 | counter`. 1 is the root directory; 0 names nothing."""

BlockId = NewType("BlockId", bytes)
"""Names a block by its content: 32 bytes, the BLAKE3 hash of its frames' BLAKE3 hashes."""

ServerId = NewType("ServerId", str)
"""Names a chunk server for its whole life: 16 hex digits chosen when its directory is made."""

SessionId = NewType("SessionId", int)
"""Names a client's session at the metadata service. Never 0, never used twice."""

ClusterId = NewType("ClusterId", str)
"""Names a cluster: 32 hex digits chosen by the first metadata server. Empty means "not known
yet"."""

MapEpoch = NewType("MapEpoch", int)
"""Version of the cluster map. Grows by one with every change."""

ShardEpoch = NewType("ShardEpoch", int)
"""Version of a shard's ownership. Grows by one with every new owner (I7)."""

OpNumber = NewType("OpNumber", int)
"""Position of an op in its session's stream, from 1. 0 means "none yet" (I8)."""

ROOT = InodeId(1)


class Credentials(msgspec.Struct, frozen=True, array_like=True):
    """Who asks. uid 0 holds every capability; everyone else holds none."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    """Supplementary groups, in any order; may or may not repeat `gid`."""

    @property
    def is_privileged(self) -> bool:
        return self.uid == 0

    def is_in_group(self, gid: int) -> bool:
        return gid == self.gid or gid in self.groups


class ServerState(Enum):
    """What the metadata service believes of a chunk server."""

    UP = "up"
    DOWN = "down"
    OUT = "out"


class ChunkServer(msgspec.Struct, frozen=True):
    """One chunk server as the cluster map knows it."""

    server_id: ServerId
    address: str
    """`HOST:PORT` or `unix:PATH`."""
    zone: str
    """Failure domain; copies of a block go to distinct zones while there are enough."""
    weight: float
    """Share of the blocks relative to the others: its capacity in GiB, at least 1. Above 0."""
    state: ServerState = ServerState.UP


class ClusterMap(msgspec.Struct, frozen=True):
    """Who exists. Placement is a pure function of a block id and this map."""

    map_epoch: MapEpoch
    servers: tuple[ChunkServer, ...]
    """Sorted by `server_id`, no id twice."""
    copies: int
    """Copies wanted of every block, from 1."""
    min_copies: int
    """Copies on stable storage needed before an extent may name the block (I1); 1 ≤ it ≤ copies."""


class VolumeSettings(msgspec.Struct, frozen=True):
    """What a client must know of the volume, fixed when the cluster is made."""

    cluster_id: ClusterId
    block_bytes: int
    """Largest block and the alignment at which files are cut. A power of two."""


class SpaceUsage(msgspec.Struct, frozen=True):
    """Capacity of a server or of a cluster, in bytes."""

    capacity_bytes: int
    used_bytes: int
    """Bytes that stored blocks take, dead ones included until compaction."""
    free_bytes: int
    """What a writer may still store; the reserve is already taken off."""
    filesystem: str = ""
    """Names the filesystem below: servers with the same one share it. Empty: shared with nobody."""
    filesystem_capacity_bytes: int = 0
    """Of the whole filesystem, whatever this server's own limit; 0 when `filesystem` is empty."""
    filesystem_free_bytes: int = 0
