"""The questions that fsck asks of chunk servers, as plain async calls.

A server that cannot be asked, or fails on the way, is put aside with the reason: a check goes on
without it and says so.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import trio

from dfs.core.messages import (
    BlockReply,
    ChunkReply,
    ChunkStatusReply,
    Done,
    GetBlock,
    GetChunkStatus,
    HasBlocks,
    HasBlocksReply,
    PutBlock,
    VerifyBlocks,
    VerifyBlocksReply,
)
from dfs.errors import DfsError
from dfs.fsck.patience import FIRST_ANSWER_TIMEOUT_S, call_patiently
from dfs.limits import HAS_BLOCKS_MAX
from dfs.rpc.client import RpcClient
from dfs.types import ServerState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from dfs.core.messages import BlockHeader, StatusReply
    from dfs.environment import Environment
    from dfs.types import BlockId, ChunkServer, ClusterId, ClusterMap, ServerId

VERIFY_TIMEOUT_S = 60.0
"""A disk that re-reads many blocks while it serves others may be slow; it is not silent."""


class ChunkServers:
    """Links to the chunk servers of the map that are not out."""

    def __init__(
        self,
        cluster_map: ClusterMap,
        clients: Mapping[ServerId, RpcClient[ChunkReply]],
        silent: Mapping[ServerId, str],
    ) -> None:
        assert not clients.keys() & silent.keys()
        self.cluster_map = cluster_map
        self.server_ids = tuple(sorted(clients))
        """Those that answered at first."""
        self._clients = clients
        self._silent = dict(silent)

    @property
    def unreachable(self) -> list[str]:
        """Those that did not answer, or no longer: `ID at ADDRESS: reason`."""
        return [f"{self.name_of(one)}: {why}" for one, why in sorted(self._silent.items())]

    def is_answering(self, server_id: ServerId) -> bool:
        return server_id in self._clients and server_id not in self._silent

    def put_aside(self, server_id: ServerId, error: DfsError) -> None:
        """It failed: nothing is known of its copies any more."""
        assert server_id in self._clients
        self._silent[server_id] = str(error)

    def name_of(self, server_id: ServerId) -> str:
        """A server for people: its id and address."""
        for server in self.cluster_map.servers:
            if server.server_id == server_id:
                return f"{server_id} at {server.address}"
        return server_id

    async def has(self, server_id: ServerId, block_ids: Sequence[BlockId]) -> tuple[bool, ...]:
        """Which of these (≤ HAS_BLOCKS_MAX) the server can read now."""
        assert len(block_ids) <= HAS_BLOCKS_MAX
        request = HasBlocks(block_ids=tuple(block_ids))
        reply, _ = await call_patiently(self._clients[server_id], request)
        assert isinstance(reply, HasBlocksReply)
        assert len(reply.has) == len(block_ids)
        return reply.has

    async def verify(self, server_id: ServerId, block_ids: Sequence[BlockId]) -> tuple[str, ...]:
        """The server's verdicts after reading and hashing these again (I2)."""
        assert len(block_ids) <= HAS_BLOCKS_MAX
        request = VerifyBlocks(block_ids=tuple(block_ids))
        client = self._clients[server_id]
        reply, _ = await call_patiently(client, request, timeout_s=VERIFY_TIMEOUT_S)
        assert isinstance(reply, VerifyBlocksReply)
        assert len(reply.verdicts) == len(block_ids)
        return reply.verdicts

    async def header(self, server_id: ServerId, block_id: BlockId) -> BlockHeader:
        """What the server's copy says of the block; not verified."""
        request = GetBlock(block_id=block_id, end_frame=1)
        reply, _ = await call_patiently(self._clients[server_id], request)
        assert isinstance(reply, BlockReply)
        return reply.header

    async def copy_block(self, block_id: BlockId, source: ServerId, target: ServerId) -> None:
        """Make one more copy; the target verifies it before it answers (I2)."""
        assert source != target
        reply, payload = await call_patiently(self._clients[source], GetBlock(block_id=block_id))
        assert isinstance(reply, BlockReply)
        request = PutBlock(header=reply.header)
        stored, _ = await self._clients[target].call(request, payload, timeout_s=VERIFY_TIMEOUT_S)
        assert isinstance(stored, Done)


@asynccontextmanager
async def open_chunk_servers(
    environment: Environment, status: StatusReply
) -> AsyncIterator[ChunkServers]:
    """Links to all servers that are not out, and which of them do not answer."""
    clients: dict[ServerId, RpcClient[ChunkReply]] = {}
    silent: dict[ServerId, str] = {}
    cluster_id = status.settings.cluster_id

    async def greet(server: ChunkServer, client: RpcClient[ChunkReply]) -> None:
        problem = await _why_silent(client, server, cluster_id)
        if problem:
            silent[server.server_id] = problem
        else:
            clients[server.server_id] = client

    async with AsyncExitStack() as stack:
        candidates: list[tuple[ChunkServer, RpcClient[ChunkReply]]] = []
        for server in status.cluster_map.servers:
            if server.state is not ServerState.OUT:
                client: RpcClient[ChunkReply] = RpcClient(environment, server.address, ChunkReply)
                candidates.append((server, await stack.enter_async_context(client)))
        async with trio.open_nursery() as nursery:
            for server, client in candidates:
                nursery.start_soon(greet, server, client)
        yield ChunkServers(status.cluster_map, clients, silent)


async def _why_silent(
    client: RpcClient[ChunkReply], server: ChunkServer, cluster_id: ClusterId
) -> str:
    """Why the server cannot be asked; empty if it can.

    An address may have passed to another server: counting its copies twice would hide a loss.
    """
    try:
        reply, _ = await client.call(GetChunkStatus(), timeout_s=FIRST_ANSWER_TIMEOUT_S)
    except DfsError as error:
        return str(error)
    assert isinstance(reply, ChunkStatusReply)
    if reply.server_id != server.server_id:
        return f"another chunk server, {reply.server_id}, answers there"
    if reply.cluster_id not in ("", cluster_id):
        return f"it belongs to cluster {reply.cluster_id}"
    return ""
