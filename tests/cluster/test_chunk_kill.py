"""Goal: kill -9 of a chunk server loses no block that it acknowledged, and revives none that it
acknowledged as deleted (I3).

Method: a real server process under puts and deletes, killed at a random moment, started again,
every block verified; over and over on one directory.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
import trio

from dfs.core.messages import DeleteBlocks, HasBlocks, PutBlock, VerifyBlocks
from dfs.errors import Disconnected
from dfs.limits import KIB
from tests.cluster.chunk_process import ChunkProcess
from tests.unit.chunk.rig import Block

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.cluster

ROUNDS = 10
WRITERS = 8
BLOCK_BYTES_MAX = 300 * KIB


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ChunkProcess]:
    process = ChunkProcess(tmp_path)
    yield process
    process.kill()


class Load:
    """Puts and deletes, and what is known of every block."""

    def __init__(self, chooser: random.Random) -> None:
        self._chooser = chooser
        self._next_number = 0
        self.put: dict[int, Block] = {}
        self.deleted: dict[int, Block] = {}

    async def run(self, server: ChunkProcess) -> None:
        """Until the server is gone."""
        async with server.client() as client:

            async def write() -> None:
                while True:
                    number = self._next_number
                    self._next_number += 1
                    block = Block(number, size=self._chooser.randrange(1, BLOCK_BYTES_MAX))
                    try:
                        await client.call(PutBlock(header=block.header), block.stored)
                        self.put[number] = block
                        if number % 5 == 0:
                            del self.put[number]
                            await client.call(DeleteBlocks(block_ids=(block.block_id,)))
                            self.deleted[number] = block
                    except Disconnected:
                        return

            async with trio.open_nursery() as nursery:
                for _ in range(WRITERS):
                    nursery.start_soon(write)

    async def check(self, server: ChunkProcess) -> None:
        async with server.client() as client:
            ids = [block.block_id for block in self.put.values()]
            verified, _ = await client.call(VerifyBlocks(block_ids=tuple(ids)), timeout_s=60)
            assert verified.verdicts == ("good",) * len(ids)
            gone = tuple(block.block_id for block in self.deleted.values())
            has, _ = await client.call(HasBlocks(block_ids=gone))
            assert has.has == (False,) * len(gone)


async def test_no_acknowledged_block_is_lost(server: ChunkProcess) -> None:
    chooser = random.Random(11)
    load = Load(chooser)
    for _ in range(ROUNDS):
        server.start()
        await load.check(server)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(load.run, server)
            await trio.sleep(chooser.uniform(0.05, 0.5))
            server.kill()
    server.start()
    await load.check(server)
    assert len(load.put) > 10 * ROUNDS
    assert len(load.deleted) > ROUNDS
    assert "rebuilding" not in server.log()
    assert server.stop() == 0
