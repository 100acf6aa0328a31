"""Where the blocks are: which servers can read which block, and whether its bytes are right (I1,
I2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfs.core.namespace.keys import block_key
from dfs.core.namespace.records import BlockRef, decode_record
from dfs.fsck.servers import VERIFY_BLOCKS_AT_ONCE
from dfs.limits import HAS_BLOCKS_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dfs.fsck.report import Progress
    from dfs.fsck.servers import Servers
    from dfs.types import BlockId


class Presence:
    """Per block that extents name: the servers with a readable copy, and those with a bad one.

    Servers are bits in the order of `Servers.reachable`, so a block costs one small integer.
    """

    def __init__(self, servers: Servers, block_ids: Sequence[BlockId]) -> None:
        self._servers = servers
        self.good: dict[BlockId, int] = dict.fromkeys(sorted(block_ids), 0)
        self.bad: dict[BlockId, int] = {}
        self.verified_copies = 0

    def servers_with(self, bits: int) -> list[str]:
        """Ids of the servers whose bits are set."""
        return [s for index, s in enumerate(self._servers.reachable) if bits >> index & 1]

    def copy_count(self, block_id: BlockId) -> int:
        return self.good[block_id].bit_count()

    @property
    def copies(self) -> int:
        return sum(bits.bit_count() for bits in self.good.values())

    async def ask_all(self, progress: Progress) -> None:
        """Ask every server which of the blocks it can read."""
        total = len(self.good) * len(self._servers.reachable)
        done = 0
        for index, server_id in enumerate(self._servers.reachable):
            for batch in batches(list(self.good), HAS_BLOCKS_MAX):
                await self._ask(index, server_id, batch)
                done += len(batch)
                progress("block copies", done, total)

    async def _ask(self, index: int, server_id: str, batch: Sequence[BlockId]) -> None:
        answers = await self._servers.has(server_id, batch)
        for block_id, has in zip(batch, answers, strict=True):
            bit = 1 << index
            self.good[block_id] = self.good[block_id] | bit if has else self.good[block_id] & ~bit

    async def verify_all(self, progress: Progress) -> None:
        """Let every server read and hash every copy that it has, also of blocks nobody names."""
        total = self.copies
        for index, server_id in enumerate(self._servers.reachable):
            async for page in self._servers.inventory(server_id):
                for batch in batches(page, VERIFY_BLOCKS_AT_ONCE):
                    await self._verify(index, server_id, batch)
                    progress("every byte", min(self.verified_copies, total), total)

    async def _verify(self, index: int, server_id: str, batch: Sequence[BlockId]) -> None:
        verdicts = await self._servers.verify(server_id, batch)
        for block_id, verdict in zip(batch, verdicts, strict=True):
            assert verdict in ("good", "absent", "corrupt")
            self.verified_copies += verdict == "good"
            if verdict == "corrupt":
                self.bad[block_id] = self.bad.get(block_id, 0) | 1 << index
            if verdict != "good" and block_id in self.good:
                self.good[block_id] &= ~(1 << index)

    async def look_again(self, block_ids: Sequence[BlockId]) -> list[BlockId]:
        """Those of `block_ids` that extents still name, asked for once more everywhere.

        A block may have been dropped, or written to another server, while the check ran.
        """
        named: list[BlockId] = []
        for batch in batches(block_ids, HAS_BLOCKS_MAX // 4):
            values = await self._servers.records([block_key(block_id) for block_id in batch])
            refs = {key: decode_record(BlockRef, value) for key, value in values.items()}
            named += [b for b in batch if (ref := refs.get(block_key(b))) and ref.count > 0]
        for index, server_id in enumerate(self._servers.reachable):
            for batch in batches(named, HAS_BLOCKS_MAX):
                await self._ask(index, server_id, batch)
        return named


def batches(items: Sequence[BlockId], size: int) -> Iterator[Sequence[BlockId]]:
    """`items` cut into runs of at most `size`."""
    assert size > 0
    for start in range(0, len(items), size):
        yield items[start : start + size]
