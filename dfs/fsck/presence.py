"""Where blocks are: which servers can read which block, and whether its bytes are right (I1, I2).

Servers are asked at the same time, each for a bounded run of blocks at a time. One that fails is
put aside, and everything that was known of its copies is forgotten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from dfs.errors import DfsError
from dfs.limits import HAS_BLOCKS_MAX

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

    from dfs.fsck.report import Progress
    from dfs.fsck.servers import ChunkServers
    from dfs.types import BlockId, ServerId

VERIFY_BLOCKS_AT_ONCE = 16
ABSENT_BLOCKS_AT_ONCE = 512
"""Blocks that a server does not have cost it no reading; it says if it has a bad copy."""


class Presence:
    """Per block: the servers with a readable copy, and those with a bad one.

    Servers are bits in the order of `ChunkServers.server_ids`, so a block costs one small integer.
    """

    def __init__(self, servers: ChunkServers, block_ids: Iterable[BlockId]) -> None:
        self._servers = servers
        self._server_ids = servers.server_ids
        self.good: dict[BlockId, int] = dict.fromkeys(sorted(block_ids), 0)
        self.bad: dict[BlockId, int] = {}

    @property
    def copies(self) -> int:
        """Readable copies of all blocks."""
        return sum(bits.bit_count() for bits in self.good.values())

    def good_at(self, block_id: BlockId) -> list[ServerId]:
        """The servers that can read it."""
        return self._servers_of(self.good[block_id])

    def bad_at(self, block_id: BlockId) -> list[ServerId]:
        """The servers whose copy has wrong bytes."""
        return self._servers_of(self.bad.get(block_id, 0))

    def _servers_of(self, bits: int) -> list[ServerId]:
        return [one for index, one in enumerate(self._server_ids) if bits >> index & 1]

    def forget(self, block_ids: Iterable[BlockId]) -> None:
        """These blocks are none of our business any more: nothing names them."""
        for block_id in block_ids:
            del self.good[block_id]
            self.bad.pop(block_id, None)

    # ------------------------------------------------------------ asking

    async def ask(self, block_ids: Sequence[BlockId], progress: Progress) -> None:
        """Ask every server which of these it can read now."""
        total, done = len(block_ids) * len(self._server_ids), 0

        async def ask_one(index: int) -> None:
            nonlocal done
            for batch in batches(block_ids, HAS_BLOCKS_MAX):
                answers = await self._servers.has(self._server_ids[index], batch)
                for block_id, has in zip(batch, answers, strict=True):
                    self._note(index, block_id, is_good=has)
                done += len(batch)
                progress("block copies", done, total)

        await self._at_every_server(ask_one)

    async def verify(self, block_ids: Sequence[BlockId], progress: Progress) -> None:
        """Let every server read and hash its copies of these, after `ask`.

        Also of those that it says it does not have: a copy known to be bad is no longer had.
        Afterwards every copy that counts as good was read.
        """
        total, done = sum(self.good[block_id].bit_count() for block_id in block_ids), 0

        async def verify_one(index: int) -> None:
            nonlocal done
            had = [b for b in block_ids if self.good[b] >> index & 1]
            for batch in batches(had, VERIFY_BLOCKS_AT_ONCE):
                await self._verify(index, batch)
                done += len(batch)
                progress("every byte", done, total)
            lacking = [b for b in block_ids if not self.good[b] >> index & 1]
            for batch in batches(lacking, ABSENT_BLOCKS_AT_ONCE):
                await self._verify(index, batch)

        await self._at_every_server(verify_one)

    async def _verify(self, index: int, batch: Sequence[BlockId]) -> None:
        verdicts = await self._servers.verify(self._server_ids[index], batch)
        for block_id, verdict in zip(batch, verdicts, strict=True):
            assert verdict in ("good", "absent", "corrupt")
            self._note(index, block_id, is_good=verdict == "good", is_bad=verdict == "corrupt")

    def _note(
        self, index: int, block_id: BlockId, *, is_good: bool, is_bad: bool | None = None
    ) -> None:
        """What the server said of one block. `is_bad` None: it did not look."""
        bit = 1 << index
        self.good[block_id] = self.good[block_id] | bit if is_good else self.good[block_id] & ~bit
        if is_bad is None and not is_good:
            return
        bad = self.bad.get(block_id, 0)
        self.bad[block_id] = bad | bit if is_bad else bad & ~bit
        if not self.bad[block_id]:
            del self.bad[block_id]

    async def _at_every_server(self, ask: Callable[[int], Awaitable[None]]) -> None:
        async def guarded(index: int) -> None:
            try:
                await ask(index)
            except DfsError as error:
                self._servers.put_aside(self._server_ids[index], error)
                self._forget_server(index)

        async with trio.open_nursery() as nursery:
            for index, server_id in enumerate(self._server_ids):
                if self._servers.is_answering(server_id):
                    nursery.start_soon(guarded, index)

    def _forget_server(self, index: int) -> None:
        keep = ~(1 << index)
        self.good = {block_id: bits & keep for block_id, bits in self.good.items()}
        bad = {block_id: bits & keep for block_id, bits in self.bad.items()}
        self.bad = {block_id: bits for block_id, bits in bad.items() if bits}


def batches(items: Sequence[BlockId], size: int) -> Iterator[Sequence[BlockId]]:
    """`items` cut into runs of at most `size`."""
    assert size > 0
    for start in range(0, len(items), size):
        yield items[start : start + size]
