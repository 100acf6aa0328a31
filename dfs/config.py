"""What each process is told when it starts: one frozen Struct per process, checked once.

The command line makes these and nothing else reads its options.
"""

from __future__ import annotations

import msgspec

from dfs.limits import (
    BLOCK_BYTES_DEFAULT,
    BLOCK_BYTES_MAX,
    BLOCK_BYTES_MIN,
    BLOCK_CACHE_BYTES_MAX,
    COPIES_MAX,
    DIRTY_BYTES_MAX,
    META_PATIENCE_S,
    RECORD_CACHE_COUNT_MAX,
    SEGMENT_BYTES_MAX,
    SESSION_TTL_S,
    SPACE_RESERVE_BYTES,
)
from dfs.types import ClusterId


class MountConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One `dfs mount`."""

    addresses: tuple[str, ...]
    """Metadata servers, `HOST:PORT` or `unix:PATH`; at least one."""
    mountpoint: str
    """Absolute, free of symlinks."""
    subdirectory: str = "/"
    """The directory of the volume that becomes the root of the mount."""
    source: str = ""
    """What mount(8) and df(1) show: the TARGET as it was given."""
    options: str = ""
    """As after -o: words and NAME=VALUE pairs, separated by commas."""
    log_path: str = ""
    """For people: where this process logs to; empty for stderr."""
    local_cluster: str = ""
    """Directory of the local cluster that this mount belongs to; empty if none."""

    def __post_init__(self) -> None:
        assert self.addresses
        assert self.mountpoint.startswith("/")
        assert self.subdirectory.startswith("/")


class ClientConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One client: a mount has one, and so does a Python program that uses `dfs.client`."""

    name: str = "dfs client"
    """Who it is, for people: host, process id, mount point."""
    cluster_id: ClusterId = ClusterId("")
    """The cluster it expects; empty takes any."""
    dirty_bytes_max: int = DIRTY_BYTES_MAX
    """Dirty data in memory; a writer that would exceed it waits."""
    block_cache_bytes_max: int = BLOCK_CACHE_BYTES_MAX
    compression_level: int = 1
    """Of zstd, for blocks on their way out."""
    connect_patience_s: float = 5.0
    """How long the first link to a metadata server is tried for."""
    patience_s: float = META_PATIENCE_S
    """How long an operation is tried for while servers do not answer."""
    hedge_s: float = 2.0
    """Silence of a chunk server after which the next copy is tried as well."""
    is_synchronous: bool = False
    """Every change of the namespace, and every close, is durable when it returns (mount -o
    sync)."""

    def __post_init__(self) -> None:
        assert self.dirty_bytes_max > 0
        assert self.block_cache_bytes_max > 0
        assert 0 < self.hedge_s < self.patience_s


class ChunkConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One `dfs chunk`."""

    data: str
    """Data directory; made when absent."""
    meta: tuple[str, ...]
    """Metadata servers to report to, `HOST:PORT` or `unix:PATH`; at least one."""
    listen: str
    """Where to listen, `HOST:PORT` (port 0: any) or `unix:PATH`."""
    advertise: str = ""
    """The address that clients are told; empty: the one listened on."""
    zone: str = ""
    """Failure domain; empty: the server's own id, so that every server is a zone of its own."""
    capacity_bytes: int | None = None
    """Bytes that segments may take; None: what the disk has."""
    reserve_bytes: int = SPACE_RESERVE_BYTES
    """Left free on the disk, so that deletes and compaction can proceed."""
    segment_bytes: int = SEGMENT_BYTES_MAX
    """Size at which the next segment begins."""

    def __post_init__(self) -> None:
        assert self.data
        assert self.meta
        assert self.listen
        assert self.capacity_bytes is None or self.capacity_bytes > 0
        assert self.reserve_bytes >= 0
        assert self.segment_bytes > 0


class MetaConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One `dfs meta`. The volume's settings matter only when its first server makes the volume."""

    listen: str
    """Where to listen, `HOST:PORT` (port 0: any) or `unix:PATH`."""
    block_bytes: int = BLOCK_BYTES_DEFAULT
    """Of a new volume: its largest block. A power of two."""
    copies: int = 2
    """Of a new volume: copies wanted of every block."""
    min_copies: int | None = None
    """Of a new volume: copies needed before an extent may name the block (I1); None: all but one,
    at least 1."""
    session_ttl_s: float = SESSION_TTL_S
    """A session that says nothing for this long is expired."""
    garbage_grace_s: float = 10.0
    """How long a block waits in the garbage queue before it is condemned."""
    cached_records_max: int = RECORD_CACHE_COUNT_MAX
    """Committed records kept in memory; large ones count several times."""

    def __post_init__(self) -> None:
        assert self.listen
        assert BLOCK_BYTES_MIN <= self.block_bytes <= BLOCK_BYTES_MAX
        assert self.block_bytes & (self.block_bytes - 1) == 0
        assert 1 <= self.copies <= COPIES_MAX
        assert self.min_copies is None or 1 <= self.min_copies <= self.copies
        assert self.session_ttl_s > 0
        assert self.garbage_grace_s >= 0
        assert self.cached_records_max > 0
