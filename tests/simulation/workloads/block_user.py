"""Uses one chunk server directly: puts, deletes and verifies blocks, and knows what must be there.

Each user has blocks of its own. A request whose link broke is sent again until it is answered, so
after every answer it is known whether the block is there (I3): a put one is good, a deleted one is
absent, whatever died in between and whether or not the index was lost.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import trio

from dfs.core.blocks import encode_block
from dfs.core.messages import DeleteBlocks, PutBlock, VerifyBlocks, VerifyBlocksReply
from dfs.errors import Fenced, RetryableError
from tests.simulation.world import Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dfs.core.messages import ChunkReply, ChunkRequest
    from dfs.core.packets import Buffer
    from dfs.rpc.client import RpcClient
    from dfs.types import BlockId
    from tests.simulation.world import World

BLOCK_COUNT = 12
BLOCK_BYTES_MAX = 100_000
AGAIN_S = 0.2


class BlockUser:
    """One task's blocks and their state: "good" or "absent"."""

    def __init__(
        self, world: World, name: str, orders: Iterator[int], step_limit: int | None = None
    ) -> None:
        self.steps_done = 0
        self._step_limit = step_limit
        self._name = name
        self._orders = orders
        self._world = world
        self._random = random.Random(f"{world.seed}/{name}")
        sizes = [self._random.randint(1, BLOCK_BYTES_MAX) for _ in range(BLOCK_COUNT)]
        plain = [self._random.randbytes(size) for size in sizes]
        self._blocks = [encode_block(each, level=1) for each in plain]
        self.states = ["absent"] * BLOCK_COUNT

    @property
    def good_ids(self) -> list[bytes]:
        """Blocks that must be there."""
        pairs = zip(self._blocks, self.states, strict=True)
        return [header.block_id for (header, _), state in pairs if state == "good"]

    async def run(self, rpc: RpcClient[ChunkReply], pause_s: float, end_s: float) -> None:
        """Work until that time or the last step; then nothing is under way."""
        while trio.current_time() < end_s and self.steps_done != self._step_limit:
            await trio.sleep(self._random.expovariate(1 / pause_s))
            await self._act(rpc)
            self.steps_done += 1

    async def _act(self, rpc: RpcClient[ChunkReply]) -> None:
        index = self._random.randrange(BLOCK_COUNT)
        header, stored = self._blocks[index]
        action = self._random.choice(("put", "put", "delete", "verify", "verify"))
        if action == "put":
            await self._ask(rpc, PutBlock(header=header), stored)
            self.states[index] = "good"
        elif action == "delete":
            await self._delete(rpc, header.block_id)
            self.states[index] = "absent"
        else:
            await self.check(rpc, index)

    async def _delete(self, rpc: RpcClient[ChunkReply], block_id: BlockId) -> None:
        """Later deletions have a higher order, as the metadata server numbers them. One that was
        overtaken by another user's is ordered anew."""
        while True:
            order = next(self._orders)
            try:
                await self._ask(rpc, DeleteBlocks(block_ids=(block_id,), order=order))
            except Fenced:
                continue
            return

    async def check_all(self, rpc: RpcClient[ChunkReply]) -> None:
        """Raises Violation."""
        for index in range(BLOCK_COUNT):
            await self.check(rpc, index)

    async def check(self, rpc: RpcClient[ChunkReply], index: int) -> None:
        block_id = self._blocks[index][0].block_id
        reply = await self._ask(rpc, VerifyBlocks(block_ids=(block_id,)))
        assert isinstance(reply, VerifyBlocksReply)
        if reply.verdicts != (self.states[index],):
            problem = f"block {block_id.hex()} is {reply.verdicts[0]}, not {self.states[index]}"
            raise Violation(f"{self._name}: {problem} (I3)")

    async def _ask(
        self, rpc: RpcClient[ChunkReply], request: ChunkRequest, payload: list[Buffer] | None = None
    ) -> ChunkReply:
        """The answer, however often it has to be asked for."""
        while True:
            try:
                reply, _ = await rpc.call(request, payload or b"")
            except RetryableError as error:
                self._world.trace.note(f"{self._name}: again: {error}")
                await trio.sleep(AGAIN_S)
            else:
                return reply
