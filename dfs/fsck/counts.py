"""Gives blocks that extents name, but whose count is lost, a count again (I6).

The records alone cannot: how long a block is, only a copy of it knows. While a block has no count,
no commit can drop a reference to it, and one that adds a reference makes a count: so the number of
extents of the census holds for as long as there is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfs.core.blocks import verify_header
from dfs.core.namespace.keys import block_key
from dfs.core.namespace.records import BlockRef, encode_record
from dfs.errors import DfsError

if TYPE_CHECKING:
    from dfs.core.namespace.census import Census
    from dfs.fsck.metadata import Metadata
    from dfs.fsck.presence import Presence
    from dfs.fsck.servers import ChunkServers
    from dfs.types import BlockId


async def restore_counts(
    metadata: Metadata, servers: ChunkServers, presence: Presence, census: Census
) -> list[str]:
    """What was done, in words. Nothing with unreadable records: they may be the counts."""
    if census.unreadable:
        return []
    done: list[str] = []
    for block_id in [b for b in census.block_uses if b not in census.block_refs]:
        length = await _length_of(servers, presence, block_id)
        if length < census.block_uses[block_id].end:
            continue
        ref = BlockRef(count=census.block_uses[block_id].count, length=length)
        key = block_key(block_id)
        if await metadata.repair({key: None}, {key: encode_record(ref)}):
            done.append(f"block {block_id.hex()} has a count again: {ref.count}")
    return done


async def _length_of(servers: ChunkServers, presence: Presence, block_id: BlockId) -> int:
    """Plain bytes of the block as a good copy of it says; 0 if none does."""
    for server_id in presence.good_at(block_id):
        try:
            header = await servers.header(server_id, block_id)
            verify_header(header)
        except DfsError:
            continue
        if header.block_id == block_id:
            return header.length
    return 0
