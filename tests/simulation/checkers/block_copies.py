"""I1: what a committed extent names is readable on at least `min_copies` chunk servers; I2: and
every copy there is has the right bytes.

Asks the running chunk servers to read and hash each block, as `dfs fsck --verify-data` does, but
takes the extents from the engine's rows.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from dfs.core.messages import ChunkReply, VerifyBlocks, VerifyBlocksReply
from dfs.core.namespace import keys
from dfs.core.namespace.records import Extent, decode_record
from dfs.rpc.client import RpcClient

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dfs.engine.api import Row
    from dfs.environment import Environment
    from dfs.types import BlockId

BLOCKS_PER_REQUEST = 256


def named_blocks(rows: Iterable[Row]) -> list[BlockId]:
    """Blocks that extents name, each once, in the order of the first that does."""
    extents = (
        decode_record(Extent, value) for key, value in rows if keys.table_of(key) == keys.EXTENT
    )
    return list(dict.fromkeys(extent.block_id for extent in extents if not extent.is_inline))


async def check_block_copies(
    environment: Environment, addresses: Sequence[str], rows: Iterable[Row], min_copies: int
) -> str:
    """Which blocks have too few good copies, or a bad one (I1, I2); empty when all are well."""
    blocks = named_blocks(rows)
    good: Counter[BlockId] = Counter()
    problems: list[str] = []
    for address in addresses:
        verdicts = await _verdicts(environment, address, blocks)
        for block_id, verdict in zip(blocks, verdicts, strict=True):
            good[block_id] += verdict == "good"
            if verdict == "corrupt":
                problems.append(f"block {block_id.hex()[:16]} is corrupt on {address} (I2)")
    problems += [
        f"block {block_id.hex()[:16]} has {good[block_id]} copies, not {min_copies} (I1)"
        for block_id in blocks
        if good[block_id] < min_copies
    ]
    return "; ".join(problems[:5])


async def _verdicts(environment: Environment, address: str, blocks: list[BlockId]) -> list[str]:
    verdicts: list[str] = []
    async with RpcClient[ChunkReply](environment, address, ChunkReply) as rpc:
        for start in range(0, len(blocks), BLOCKS_PER_REQUEST):
            asked = tuple(blocks[start : start + BLOCKS_PER_REQUEST])
            reply, _ = await rpc.call(VerifyBlocks(block_ids=asked))
            assert isinstance(reply, VerifyBlocksReply)
            verdicts += reply.verdicts
    return verdicts
