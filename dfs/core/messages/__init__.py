"""What parts of dfs say to each other: one tagged union of requests and one of replies per service.

`docs/protocol.md` tells the conversations; `packets.py` turns these into bytes. Bulk data travels
beside the message as the packet's payload and is never copied into it.
"""

from __future__ import annotations

from dfs.core.messages.base import PROTOCOL_VERSION, Done, Failure, Message
from dfs.core.messages.blocks import (
    BlockHeader,
    BlockReply,
    ChunkStatusReply,
    DeleteBlocks,
    FrameHeader,
    GetBlock,
    GetChunkStatus,
    HasBlocks,
    HasBlocksReply,
    ListBlocks,
    ListBlocksReply,
    PutBlock,
    VerifyBlocks,
    VerifyBlocksReply,
)
from dfs.core.messages.changes import ApplyOps, ApplyReply, NumberedOp, OpOutcome
from dfs.core.messages.operators import (
    ExportRecords,
    GetRecords,
    GetStatus,
    RecordsReply,
    RepairRecords,
    ReportReply,
    ReportServer,
    ServerStatus,
    SessionStatus,
    StatusReply,
)
from dfs.core.messages.reads import (
    NO_SESSION,
    DirectoryEntry,
    DirectoryReply,
    ExtentsReply,
    GetAttr,
    GetXattr,
    InodeReply,
    ListXattrs,
    Lookup,
    Open,
    OpenReply,
    ReadDirectory,
    ReadExtents,
    Release,
    StatFs,
    StatFsReply,
    XattrNamesReply,
    XattrReply,
)
from dfs.core.messages.sessions import (
    AnswerRecalls,
    CloseSession,
    InodeRangeReply,
    KeepAlive,
    KeepAliveReply,
    OpenSession,
    Recall,
    SessionReply,
    TakeInodeRange,
)

MetaRequest = (
    OpenSession
    | KeepAlive
    | AnswerRecalls
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

__all__ = [
    "AnswerRecalls",
    "ApplyOps",
    "ApplyReply",
    "BlockHeader",
    "BlockReply",
    "ChunkReply",
    "ChunkRequest",
    "ChunkStatusReply",
    "CloseSession",
    "DeleteBlocks",
    "DirectoryEntry",
    "DirectoryReply",
    "Done",
    "ExportRecords",
    "ExtentsReply",
    "Failure",
    "FrameHeader",
    "GetAttr",
    "GetBlock",
    "GetChunkStatus",
    "GetRecords",
    "GetStatus",
    "GetXattr",
    "HasBlocks",
    "HasBlocksReply",
    "InodeRangeReply",
    "InodeReply",
    "KeepAlive",
    "KeepAliveReply",
    "ListBlocks",
    "ListBlocksReply",
    "ListXattrs",
    "Lookup",
    "Message",
    "MetaReply",
    "MetaRequest",
    "NO_SESSION",
    "NumberedOp",
    "OpOutcome",
    "Open",
    "OpenReply",
    "OpenSession",
    "PROTOCOL_VERSION",
    "PutBlock",
    "ReadDirectory",
    "ReadExtents",
    "Recall",
    "RecordsReply",
    "Release",
    "RepairRecords",
    "ReportReply",
    "ReportServer",
    "ServerStatus",
    "SessionReply",
    "SessionStatus",
    "StatFs",
    "StatFsReply",
    "StatusReply",
    "TakeInodeRange",
    "VerifyBlocks",
    "VerifyBlocksReply",
    "XattrNamesReply",
    "XattrReply",
]
