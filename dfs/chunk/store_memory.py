"""Blocks in memory: the store for tests and for trying things out. It ships, so that it stays true.

Nothing survives the process. `damage` stands for what a disk does.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from dfs.chunk.store import ABSENT, CORRUPT, GOOD, BlockStore, StoreStatus
from dfs.core.blocks import decode_frames, frame_span
from dfs.errors import BlockNotFound, CorruptBlock, FsError, NoSpace
from dfs.limits import GIB
from dfs.types import SpaceUsage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dfs.chunk.disk import Buffer
    from dfs.core.messages import BlockHeader
    from dfs.types import BlockId


class MemoryStore(BlockStore):
    """Holds up to `capacity_bytes` of stored bytes."""

    def __init__(self, *, capacity_bytes: int = GIB) -> None:
        assert capacity_bytes > 0
        self._capacity_bytes = capacity_bytes
        self._blocks: dict[BlockId, tuple[BlockHeader, bytes]] = {}
        self._bad: dict[BlockId, None] = {}

    async def put(self, header: BlockHeader, stored: Buffer) -> None:
        if self._has(header.block_id):
            return
        decode_frames(header, stored)
        if len(stored) > self._free_bytes:
            raise NoSpace(f"no space for {len(stored)} bytes")
        self._blocks[header.block_id] = (header, bytes(stored))
        self._bad.pop(header.block_id, None)

    async def get(
        self, block_id: BlockId, first_frame: int = 0, end_frame: int | None = None
    ) -> tuple[BlockHeader, Buffer]:
        if block_id in self._bad:
            raise CorruptBlock(f"the copy of block {block_id.hex()} here is known to be bad")
        if block_id not in self._blocks:
            raise BlockNotFound(f"block {block_id.hex()} is not here")
        header, stored = self._blocks[block_id]
        end = len(header.frames) if end_frame is None else end_frame
        if not 0 <= first_frame < end <= len(header.frames):
            raise FsError(errno.EINVAL, f"no frames [{first_frame}, {end}) in this block")
        offset, length = frame_span(header, first_frame, end)
        frames = memoryview(stored)[offset : offset + length]
        try:
            decode_frames(header, frames, first_frame, end)
        except CorruptBlock:
            self._bad[block_id] = None
            raise
        return header, frames

    async def has(self, block_ids: Sequence[BlockId]) -> list[bool]:
        return [self._has(block_id) for block_id in block_ids]

    async def verify(self, block_ids: Sequence[BlockId]) -> list[str]:
        return [await self._verify_one(block_id) for block_id in block_ids]

    async def list_blocks(self, after: BlockId, limit: int) -> tuple[list[BlockId], bool]:
        assert limit > 0
        ids = sorted(each for each in self._blocks if self._has(each) and each > after)
        return ids[:limit], len(ids) <= limit

    async def delete(self, block_ids: Sequence[BlockId]) -> None:
        for block_id in block_ids:
            self._blocks.pop(block_id, None)
            self._bad.pop(block_id, None)

    async def status(self) -> StoreStatus:
        return StoreStatus(
            space=SpaceUsage(
                capacity_bytes=self._capacity_bytes,
                used_bytes=self._capacity_bytes - self._free_bytes,
                free_bytes=self._free_bytes,
            ),
            block_count=len(self._blocks) - len(self._bad),
            corrupt_count=len(self._bad),
        )

    def damage(self, block_id: BlockId, position: int = 0) -> None:
        """Flip a bit of the stored byte at `position`."""
        header, stored = self._blocks[block_id]
        flipped = bytes((stored[position] ^ 1,))
        self._blocks[block_id] = (header, stored[:position] + flipped + stored[position + 1 :])

    @property
    def _free_bytes(self) -> int:
        return self._capacity_bytes - sum(len(stored) for _, stored in self._blocks.values())

    def _has(self, block_id: BlockId) -> bool:
        return block_id in self._blocks and block_id not in self._bad

    async def _verify_one(self, block_id: BlockId) -> str:
        try:
            await self.get(block_id)
        except BlockNotFound:
            return ABSENT
        except CorruptBlock:
            return CORRUPT
        return GOOD
