"""A client whose server is driven by the test, byte by byte."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio
import trio.testing

from dfs.core.messages import (
    ChunkReply,
    ChunkRequest,
)
from dfs.rpc.client import RpcClient
from dfs.types import BlockId
from tests.unit.rpc.memory_network import Peer, memory_environment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dfs.environment import Environment

ADDRESS = "chunk-1:7001"
BLOCK = BlockId(bytes(32))


class Scene:
    """A client, and a server whose every byte the test sends."""

    def __init__(self, environment: Environment, client: RpcClient[Any], listener: Any) -> None:
        self.network: Any = environment.network
        self.client = client
        self._listener = listener
        self.outcomes: dict[str, Any] = {}

    async def peer(self) -> Peer:
        """The server's end of the client's next link."""
        return Peer(await self._listener.accept(), ChunkRequest)

    async def call(self, name: str, *arguments: Any, **options: Any) -> None:
        """Make a call and note what came of it."""
        try:
            self.outcomes[name] = await self.client.call(*arguments, **options)
        except Exception as error:
            self.outcomes[name] = error


@asynccontextmanager
async def scene() -> AsyncIterator[tuple[Scene, trio.Nursery]]:
    environment = memory_environment()
    listener = await environment.network.listen(ADDRESS)
    async with (
        RpcClient(environment, ADDRESS, ChunkReply) as client,
        trio.open_nursery() as nursery,
    ):
        yield Scene(environment, client, listener), nursery
        nursery.cancel_scope.cancel()
