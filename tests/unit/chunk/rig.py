"""A segment store over a disk in memory: opened, killed, and opened again by tests."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from dfs.chunk.compactor import Compactor
from dfs.chunk.identity import Identity
from dfs.chunk.store_segments import SegmentStore
from dfs.config import ChunkConfig
from dfs.core.blocks import encode_block
from dfs.engine.memory_engine import MemoryEngine, MemoryStorage
from dfs.environment import Environment
from dfs.limits import GIB, KIB
from tests.unit.chunk.memory_disk import MemoryDisk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from dfs.core.messages import BlockHeader
    from dfs.types import BlockId


async def run_inline(function: Callable[..., Any], /, *args: object) -> Any:
    """As a worker thread would, but here: other tasks run before and after."""
    await trio.lowlevel.checkpoint()
    result = function(*args)
    await trio.lowlevel.checkpoint()
    return result


def inline_environment(seed: int = 1) -> Environment:
    network: Any = None
    return Environment(
        network=network, run_blocking=run_inline, now_ns=lambda: 0, random=random.Random(seed)
    )


def chunk_config(**changes: Any) -> ChunkConfig:
    settings: dict[str, Any] = {
        "data": "data",
        "meta": ("meta:1",),
        "listen": "chunk:1",
        "reserve_bytes": 0,
        **changes,
    }
    return ChunkConfig(**settings)


async def _do_nothing(*, is_last: bool = False) -> None:
    assert is_last


class Block:
    """A block to put: `number` decides its bytes."""

    def __init__(self, number: int, *, size: int = 3 * KIB, level: int = 0) -> None:
        self.plain = random.Random(number).randbytes(size)
        if level:
            self.plain = (self.plain[:16] * size)[:size]
        self.header: BlockHeader
        self.header, buffers = encode_block(self.plain, level=level)
        self.stored = b"".join(bytes(buffer) for buffer in buffers)

    @property
    def block_id(self) -> BlockId:
        return self.header.block_id


class Rig:
    """One server's disk and index, over several lives of its process."""

    def __init__(self, *, disk_bytes: int = GIB, **config: Any) -> None:
        self.disk = MemoryDisk(capacity_bytes=disk_bytes)
        self.storage = MemoryStorage()
        self.environment = inline_environment()
        self.config = chunk_config(**config)
        self.identity: Identity
        self.operation_count = 0
        """Disk operations in all lives that ended well."""

    @asynccontextmanager
    async def store(self, *, is_killed: bool = False) -> AsyncIterator[SegmentStore]:
        """Open, run until the block ends, close cleanly; or, if `is_killed`, write nothing more."""
        engine = MemoryEngine(self.storage)
        self.identity = Identity.open(self.disk, self.environment.random, "data")
        store = await SegmentStore.open(
            self.environment, self.disk, engine, self.identity, self.config
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(store.run)
            yield store
            if is_killed:
                store._checkpoint = _do_nothing  # type: ignore[method-assign]
            nursery.cancel_scope.cancel()
        engine.close()
        self.disk.close()
        self.operation_count += self.disk.operation_count
        self.disk = self.disk.process_killed()

    def compactor(self, store: SegmentStore) -> Compactor:
        return Compactor(
            self.environment,
            self.disk,
            self.identity.server_id,
            store,
            segment_bytes=self.config.segment_bytes,
        )

    def power_cut(self, *, is_unsynced_kept: bool = False) -> None:
        """Machine off and on again."""
        self.disk = self.disk.power_cut(is_unsynced_kept=is_unsynced_kept)
        self.storage.power_cut(is_unsynced_kept=is_unsynced_kept)

    def lose_index(self) -> None:
        self.storage = MemoryStorage()

    def segment_names(self) -> list[str]:
        return [name for name in self.disk.files if name.startswith("segments/")]
