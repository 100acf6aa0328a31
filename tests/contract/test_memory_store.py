"""The store in memory keeps the contract."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from dfs.chunk.store_memory import MemoryStore
from tests.contract.block_store_contract import CAPACITY_BYTES, BlockStoreContract

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.unit.chunk.rig import Block


class TestMemoryStore(BlockStoreContract):
    @asynccontextmanager
    async def opened(self) -> AsyncIterator[MemoryStore]:
        yield MemoryStore(capacity_bytes=CAPACITY_BYTES)

    async def damage(self, store: Any, block: Block, position: int) -> None:
        store.damage(block.block_id, position)
