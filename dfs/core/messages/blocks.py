"""Chunk service: blocks come and go."""

from __future__ import annotations

import msgspec

from dfs.core.messages.base import Message
from dfs.types import BlockId, ClusterId, ServerId, SpaceUsage


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
    order: int = 0
    """Grows with every deletion. One below the highest seen was overtaken while it lingered on a
    broken link: it is refused with Fenced, for what it names may have been uploaded since."""


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
