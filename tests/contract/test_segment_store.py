"""The store of segments keeps the contract: on a disk in memory, and on a real one with LMDB."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio

from dfs.chunk.disk import SystemDisk
from dfs.chunk.identity import Identity
from dfs.chunk.segment_log import segment_name
from dfs.chunk.store_segments import SegmentStore
from dfs.engine.lmdb_engine import LmdbEngine
from dfs.rpc.transport import system_environment
from tests.contract.block_store_contract import CAPACITY_BYTES, BlockStoreContract
from tests.unit.chunk.rig import Rig, chunk_config

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.unit.chunk.rig import Block


class TestSegmentStoreInMemory(BlockStoreContract):
    @asynccontextmanager
    async def opened(self) -> AsyncIterator[SegmentStore]:
        self.rig = Rig(capacity_bytes=CAPACITY_BYTES)
        async with self.rig.store() as store:
            yield store

    async def damage(self, store: Any, block: Block, position: int) -> None:
        [location] = store.index.get([block.block_id])
        offset = location.end - location.payload_bytes + position
        self.rig.disk.flip(segment_name(location.segment), offset)


class TestSegmentStoreOnDisk(BlockStoreContract):
    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self.place = tmp_path

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[SegmentStore]:
        environment = system_environment()
        config = chunk_config(data=str(self.place), capacity_bytes=CAPACITY_BYTES)
        disk = SystemDisk(str(self.place))
        engine = LmdbEngine(self.place / "index")
        identity = Identity.open(disk, environment.random, str(self.place))
        try:
            store = await SegmentStore.open(environment, disk, engine, identity, config)
            async with trio.open_nursery() as nursery:
                await nursery.start(store.run)
                yield store
                nursery.cancel_scope.cancel()
        finally:
            engine.close()
            disk.close()

    async def damage(self, store: Any, block: Block, position: int) -> None:
        [location] = store.index.get([block.block_id])
        offset = location.end - location.payload_bytes + position
        path = self.place / segment_name(location.segment)
        with path.open("r+b") as file:
            byte = os.pread(file.fileno(), 1, offset)
            os.pwrite(file.fileno(), bytes((byte[0] ^ 1,)), offset)
