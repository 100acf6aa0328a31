"""What parts of dfs say to each other: one tagged union of requests and one of replies per service.

`docs/protocol.md` tells the conversations; `packets.py` turns these into bytes. Bulk data travels
beside the message as the packet's payload and is never copied into it.
"""

from __future__ import annotations

import msgspec

from dfs.core.namespace.ops import ClientOp, OpResult
from dfs.core.namespace.records import Extent, Inode
from dfs.types import (
    BlockId,
    ChunkServer,
    ClusterId,
    ClusterMap,
    InodeId,
    MapEpoch,
    OpNumber,
    ServerId,
    SessionId,
    SpaceUsage,
    VolumeSettings,
)

PROTOCOL_VERSION = 1


class Message(msgspec.Struct, frozen=True, tag=True, kw_only=True, omit_defaults=True):
    """Base of all requests and replies."""


# ---------------------------------------------------------------- both services


class Failure(Message, frozen=True, tag=True, kw_only=True):
    """The request failed. `kind` is the name of a class of dfs.errors; `errno` is set for
    FsError."""

    kind: str
    message: str
    errno: int = 0


class Done(Message, frozen=True, tag=True, kw_only=True):
    """It happened; there is nothing else to say."""


# ---------------------------------------------------------------- metadata service: sessions


class OpenSession(Message, frozen=True, tag=True, kw_only=True):
    """A client arrives (session_id 0) or comes back after a lost link or a server restart.

    Coming back it names what it holds open; a session that was expired is answered with Fenced.
    """

    client: str
    cluster_id: ClusterId = ClusterId("")
    """The cluster it expects; empty if it does not know. A mismatch is answered with
    WrongCluster."""
    session_id: SessionId = SessionId(0)
    held: tuple[InodeId, ...] = ()


class SessionReply(Message, frozen=True, tag=True, kw_only=True):
    session_id: SessionId
    last_op: OpNumber
    """Ops up to here are durable or failed for good; re-send only to learn the outcome (I8)."""
    first_ino: InodeId
    """Inode numbers [first_ino, end_ino) are the session's to use; on return, those may be partly
    used."""
    end_ino: InodeId
    settings: VolumeSettings
    cluster_map: ClusterMap
    session_ttl_s: float


class KeepAlive(Message, frozen=True, tag=True, kw_only=True):
    """I am alive; tell me if the map changed. Also carries what was closed since."""

    session_id: SessionId
    map_epoch: MapEpoch
    releases: tuple[InodeId, ...] = ()


class KeepAliveReply(Message, frozen=True, tag=True, kw_only=True):
    cluster_map: ClusterMap | None = None
    """Set when it is newer than the one the client named."""


class CloseSession(Message, frozen=True, tag=True, kw_only=True):
    """The client leaves: everything it held is let go. Answered with Done."""

    session_id: SessionId


class TakeInodeRange(Message, frozen=True, tag=True, kw_only=True):
    """More inode numbers, durable before they are handed out (no number is ever given twice)."""

    session_id: SessionId


class InodeRangeReply(Message, frozen=True, tag=True, kw_only=True):
    first_ino: InodeId
    end_ino: InodeId


# ---------------------------------------------------------------- metadata service: changes


class NumberedOp(msgspec.Struct, frozen=True, array_like=True):
    number: OpNumber
    op: ClientOp
    has_hold: bool = False
    """Create: the creator holds the inode open, as after Open."""


class ApplyOps(Message, frozen=True, tag=True, kw_only=True):
    """The next ops of the session's stream, numbers consecutive. Answered when all are durable
    (I3).

    A number ≤ the session's last op is not applied again; its outcome is told again (I8).
    """

    session_id: SessionId
    ops: tuple[NumberedOp, ...]
    answered_below: OpNumber = OpNumber(1)
    """The client has the outcome of every op below this: the server may forget them."""
    releases: tuple[InodeId, ...] = ()
    """What was closed since; see Release."""


class OpOutcome(msgspec.Struct, frozen=True):
    """`errno` 0: `result` holds. Otherwise the op failed and changed nothing."""

    errno: int = 0
    result: OpResult | None = None
    kind: str = ""
    """Name of a dfs.errors class when errno alone does not say it; usually empty."""


class ApplyReply(Message, frozen=True, tag=True, kw_only=True):
    outcomes: tuple[OpOutcome, ...]
    """One per op, in order."""


# ---------------------------------------------------------------- metadata service: reads


class Lookup(Message, frozen=True, tag=True, kw_only=True):
    """Answered with InodeReply, or ENOENT, ENOTDIR, ENAMETOOLONG, ESTALE (the directory is
    gone)."""

    parent: InodeId
    name: bytes


class GetAttr(Message, frozen=True, tag=True, kw_only=True):
    """Answered with InodeReply, or ESTALE."""

    ino: InodeId


class InodeReply(Message, frozen=True, tag=True, kw_only=True):
    inode: Inode


class Open(Message, frozen=True, tag=True, kw_only=True):
    """Hold an inode so that it outlives its last name, and fetch what a reader needs. Answered
    with OpenReply."""

    session_id: SessionId
    ino: InodeId


class OpenReply(Message, frozen=True, tag=True, kw_only=True):
    inode: Inode
    extents: tuple[Extent, ...] = ()
    """The file's first extents, by offset."""
    is_complete: bool = True
    """`extents` holds all there are."""


class Release(Message, frozen=True, tag=True, kw_only=True):
    """The session no longer holds these (last close). Answered with Done.

    A client sends no Open for an inode while a release of it is under way.
    """

    session_id: SessionId
    inos: tuple[InodeId, ...]


class ReadExtents(Message, frozen=True, tag=True, kw_only=True):
    """Extents that touch [start, end), by offset, with the inode of the same moment. Answered with
    ExtentsReply."""

    ino: InodeId
    start: int
    end: int


class ExtentsReply(Message, frozen=True, tag=True, kw_only=True):
    inode: Inode
    extents: tuple[Extent, ...]
    end: int
    """The reply covers [start, end): less than asked when there were too many for one reply."""


class ReadDirectory(Message, frozen=True, tag=True, kw_only=True):
    """Entries whose names sort after `after`, with attributes. Answered with DirectoryReply."""

    ino: InodeId
    after: bytes = b""
    limit: int = 1000


class DirectoryEntry(msgspec.Struct, frozen=True, array_like=True):
    name: bytes
    inode: Inode


class DirectoryReply(Message, frozen=True, tag=True, kw_only=True):
    entries: tuple[DirectoryEntry, ...]
    is_last: bool


class GetXattr(Message, frozen=True, tag=True, kw_only=True):
    """Answered with XattrReply, or ENODATA, ESTALE."""

    ino: InodeId
    name: bytes


class XattrReply(Message, frozen=True, tag=True, kw_only=True):
    value: bytes


class ListXattrs(Message, frozen=True, tag=True, kw_only=True):
    """Answered with XattrNamesReply, or ESTALE."""

    ino: InodeId


class XattrNamesReply(Message, frozen=True, tag=True, kw_only=True):
    names: tuple[bytes, ...]


class StatFs(Message, frozen=True, tag=True, kw_only=True):
    """Answered with StatFsReply."""


class StatFsReply(Message, frozen=True, tag=True, kw_only=True):
    inode_count: int
    stored_bytes: int
    """What files hold, before deduplication and copies."""
    space: SpaceUsage
    """Raw: the sum over chunk servers that are not out. Divide by copies for what files may use."""


# ---------------------------------------------------------------- metadata service: operators


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


MetaRequest = (
    OpenSession
    | KeepAlive
    | CloseSession
    | TakeInodeRange
    | ApplyOps
    | Lookup
    | GetAttr
    | Open
    | Release
    | ReadExtents
    | ReadDirectory
    | GetXattr
    | ListXattrs
    | StatFs
    | ReportServer
    | GetStatus
    | ExportRecords
    | GetRecords
    | RepairRecords
)
MetaReply = (
    Failure
    | Done
    | SessionReply
    | KeepAliveReply
    | InodeRangeReply
    | ApplyReply
    | InodeReply
    | OpenReply
    | ExtentsReply
    | DirectoryReply
    | XattrReply
    | XattrNamesReply
    | StatFsReply
    | ReportReply
    | StatusReply
    | RecordsReply
)

# ---------------------------------------------------------------- chunk service


class FrameHeader(msgspec.Struct, frozen=True, array_like=True):
    """One frame as stored: its hash is of the plain bytes."""

    frame_hash: bytes
    stored_bytes: int
    is_compressed: bool
    """zstd; otherwise the plain bytes."""


class BlockHeader(msgspec.Struct, frozen=True, array_like=True):
    """What turns stored bytes into a block. The block id is the BLAKE3 hash of the frames' hashes,
    concatenated."""

    block_id: BlockId
    length: int
    """Plain bytes; every frame but the last has FRAME_BYTES of them."""
    frames: tuple[FrameHeader, ...]


class PutBlock(Message, frozen=True, tag=True, kw_only=True):
    """Store a block; the payload is its frames' stored bytes in order. Answered with Done once it
    is durable (I3).

    CorruptBlock if it does not match its name, NoSpace if the disk is full. Putting a block that
    is there is no work.
    """

    header: BlockHeader


class GetBlock(Message, frozen=True, tag=True, kw_only=True):
    """A whole block, or the frames [first_frame, end_frame). Answered with BlockReply,
    BlockNotFound, or CorruptBlock: the server found its copy bad, no longer counts it as had, and
    takes a good one by PutBlock.
    """

    block_id: BlockId
    first_frame: int = 0
    end_frame: int | None = None
    """None: to the last frame."""


class BlockReply(Message, frozen=True, tag=True, kw_only=True):
    """The payload is the stored bytes of the frames that were asked for, in order."""

    header: BlockHeader
    """Always of the whole block, so that any frame can be verified against the block id."""


class HasBlocks(Message, frozen=True, tag=True, kw_only=True):
    """Which of these (≤ HAS_BLOCKS_MAX) are readable here now? Answered with HasBlocksReply."""

    block_ids: tuple[BlockId, ...]


class HasBlocksReply(Message, frozen=True, tag=True, kw_only=True):
    has: tuple[bool, ...]


class VerifyBlocks(Message, frozen=True, tag=True, kw_only=True):
    """Re-read and re-hash these here, so that no data moves. Answered with VerifyBlocksReply."""

    block_ids: tuple[BlockId, ...]


class VerifyBlocksReply(Message, frozen=True, tag=True, kw_only=True):
    verdicts: tuple[str, ...]
    """Per block: "good", "absent" or "corrupt"."""


class ListBlocks(Message, frozen=True, tag=True, kw_only=True):
    """Inventory in order of block id, after `after`. Answered with ListBlocksReply."""

    after: BlockId = BlockId(b"")
    limit: int = 4096


class ListBlocksReply(Message, frozen=True, tag=True, kw_only=True):
    block_ids: tuple[BlockId, ...]
    is_last: bool


class DeleteBlocks(Message, frozen=True, tag=True, kw_only=True):
    """Forget these: they are condemned (I6). Answered with Done once that is durable; unknown ids
    are fine."""

    block_ids: tuple[BlockId, ...]


class GetChunkStatus(Message, frozen=True, tag=True, kw_only=True):
    """Answered with ChunkStatusReply."""


class ChunkStatusReply(Message, frozen=True, tag=True, kw_only=True):
    server_id: ServerId
    cluster_id: ClusterId
    space: SpaceUsage
    block_count: int
    corrupt_count: int
    """Copies found bad and not yet replaced since start."""
    version: str
    uptime_s: float


ChunkRequest = (
    PutBlock | GetBlock | HasBlocks | VerifyBlocks | ListBlocks | DeleteBlocks | GetChunkStatus
)
ChunkReply = (
    Failure
    | Done
    | BlockReply
    | HasBlocksReply
    | VerifyBlocksReply
    | ListBlocksReply
    | ChunkStatusReply
)
