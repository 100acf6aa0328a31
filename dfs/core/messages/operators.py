"""Metadata service: chunk servers that report, and operators who look and mend."""

from __future__ import annotations

import msgspec

from dfs.core.messages.base import Message
from dfs.types import (
    ChunkServer,
    ClusterId,
    ClusterMap,
    InodeId,
    OpNumber,
    ServerId,
    SessionId,
    SpaceUsage,
    VolumeSettings,
)


class ReportServer(Message, frozen=True, tag=True, kw_only=True):
    """A chunk server is alive. Answered with ReportReply, or WrongCluster."""

    server_id: ServerId
    cluster_id: ClusterId
    """Empty on a server's very first report: it learns the cluster from the reply."""
    address: str
    zone: str
    space: SpaceUsage
    block_count: int


class ReportReply(Message, frozen=True, tag=True, kw_only=True):
    cluster_id: ClusterId
    cluster_map: ClusterMap


class GetStatus(Message, frozen=True, tag=True, kw_only=True):
    """Answered with StatusReply. Needs no session."""


class ServerStatus(msgspec.Struct, frozen=True):
    server: ChunkServer
    space: SpaceUsage | None
    """None until its first report to this metadata server."""
    block_count: int
    silent_s: float
    """Since its last report; infinite would be None space."""


class SessionStatus(msgspec.Struct, frozen=True):
    session_id: SessionId
    client: str
    held_count: int
    """Inodes that it has open."""
    lease_count: int
    """Inodes that it may remember."""
    last_op: OpNumber
    silent_s: float


class StatusReply(Message, frozen=True, tag=True, kw_only=True):
    settings: VolumeSettings
    cluster_map: ClusterMap
    servers: tuple[ServerStatus, ...]
    sessions: tuple[SessionStatus, ...]
    inode_count: int
    stored_bytes: int
    orphan_count: int
    garbage_count: int
    version: str
    uptime_s: float


class ExportRecords(Message, frozen=True, tag=True, kw_only=True):
    """The next page of all records as of one moment (for fsck). Answered with RecordsReply.

    export_id 0 starts a new export; the server drops exports that rest for a minute.
    """

    export_id: int = 0


class RecordsReply(Message, frozen=True, tag=True, kw_only=True):
    export_id: int
    rows: tuple[tuple[bytes, bytes], ...]
    """Key and encoded record, by key. Empty after the last page; the export is then gone."""
    held: tuple[InodeId, ...] = ()
    """First page only: inodes that sessions hold open."""


class GetRecords(Message, frozen=True, tag=True, kw_only=True):
    """Committed values of these keys, for fsck's second look. Answered with RecordsReply (absent
    keys left out)."""

    keys: tuple[bytes, ...]


class RepairRecords(Message, frozen=True, tag=True, kw_only=True):
    """fsck --repair: write `puts` (None deletes) if `checks` (None: absent) still hold. Answered
    with Done.

    FsError(EAGAIN) when a check no longer holds: look again.
    """

    checks: dict[bytes, bytes | None]
    puts: dict[bytes, bytes | None]
