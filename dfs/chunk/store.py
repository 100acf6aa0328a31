"""What a chunk server keeps: blocks by name. `store_segments.py` is the real one.

`tests/contract/block_store_contract.py` is the meaning of this file in executable form.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import msgspec

from dfs.types import SpaceUsage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dfs.chunk.disk import Buffer
    from dfs.core.messages import BlockHeader
    from dfs.types import BlockId

GOOD = "good"
ABSENT = "absent"
CORRUPT = "corrupt"


class StoreStatus(msgspec.Struct, frozen=True):
    """Figures of a store."""

    space: SpaceUsage
    block_count: int
    """Blocks that are had: bad copies are not counted."""
    corrupt_count: int
    """Copies found bad since start and neither replaced nor deleted since."""


class BlockStore(ABC):
    """Blocks by name. A block is *had* while it is stored and not known to be bad."""

    @abstractmethod
    async def put(self, header: BlockHeader, stored: Buffer) -> None:
        """Store a block; durable when it returns (I3). `stored` are its frames' bytes in order and
        must not change meanwhile.

        A block that is had is no work; a bad copy is replaced. Raises CorruptBlock when the bytes
        do not match the name (I2), NoSpace, and DfsError when the disk fails: then nothing of it
        counts.
        """

    @abstractmethod
    async def get(
        self, block_id: BlockId, first_frame: int = 0, end_frame: int | None = None
    ) -> tuple[BlockHeader, Buffer]:
        """The header of a whole block and the stored bytes of frames [first_frame, end_frame),
        verified (I2).

        Raises BlockNotFound; CorruptBlock when the copy is bad (from then on it is not had);
        FsError(EINVAL) when there are no such frames.
        """

    @abstractmethod
    async def has(self, block_ids: Sequence[BlockId]) -> list[bool]:
        """Which of these are had now, in the order asked."""

    @abstractmethod
    async def verify(self, block_ids: Sequence[BlockId]) -> list[str]:
        """GOOD, ABSENT or CORRUPT for each, after reading and hashing every byte (I2)."""

    @abstractmethod
    async def list_blocks(self, after: BlockId, limit: int) -> tuple[list[BlockId], bool]:
        """Up to `limit` blocks that are had, by id, above `after`; and whether that was the end."""

    @abstractmethod
    async def delete(self, block_ids: Sequence[BlockId]) -> None:
        """Forget these; durable when it returns (I3). Unknown ones are fine.

        A put that began after this returned, or after it began, is not undone by it.
        """

    @abstractmethod
    async def status(self) -> StoreStatus:
        """Figures as of now."""
