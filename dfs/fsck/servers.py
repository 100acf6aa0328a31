"""The questions that fsck asks of a live cluster, as plain async calls."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from dfs.core.messages import (
    BlockReply,
    ChunkReply,
    Done,
    ExportRecords,
    GetBlock,
    GetRecords,
    GetStatus,
    HasBlocks,
    HasBlocksReply,
    ListBlocks,
    ListBlocksReply,
    MetaReply,
    PutBlock,
    RecordsReply,
    RepairRecords,
    StatusReply,
    VerifyBlocks,
    VerifyBlocksReply,
)
from dfs.errors import DfsError, Disconnected, UserError
from dfs.limits import HAS_BLOCKS_MAX
from dfs.rpc.client import RpcClient
from dfs.types import BlockId, ChunkServer, ServerState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from dfs.environment import Environment
    from dfs.types import InodeId

Row = tuple[bytes, bytes]

FIRST_ANSWER_TIMEOUT_S = 5.0
VERIFY_BLOCKS_AT_ONCE = 32
VERIFY_TIMEOUT_S = 120.0
"""A disk that re-reads 32 blocks while it serves others may be slow; it is not silent."""


class Servers:
    """Links to the metadata server and to every chunk server that answers."""

    def __init__(
        self,
        meta: RpcClient[MetaReply],
        status: StatusReply,
        chunks: dict[str, RpcClient[ChunkReply]],
    ) -> None:
        self._meta = meta
        self._chunks = chunks
        self.status = status

    @property
    def reachable(self) -> list[str]:
        """Ids of the chunk servers that answer, sorted."""
        return sorted(self._chunks)

    def name_of(self, server_id: str) -> str:
        """A server for people: its id and address."""
        for server in self.status.cluster_map.servers:
            if server.server_id == server_id:
                return f"{server_id} at {server.address}"
        return server_id

    async def pages(self) -> AsyncIterator[tuple[list[Row], tuple[InodeId, ...]]]:
        """Pages of all records as of one moment; the first names what sessions hold open."""
        export_id = 0
        while True:
            reply, _ = await self._meta.call(ExportRecords(export_id=export_id))
            assert isinstance(reply, RecordsReply)
            if not reply.rows:
                return
            yield list(reply.rows), reply.held
            export_id = reply.export_id

    async def records(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """What the engine holds now under these keys; absent ones are left out."""
        reply, _ = await self._meta.call(GetRecords(keys=tuple(keys)))
        assert isinstance(reply, RecordsReply)
        return dict(reply.rows)

    async def repair(
        self, checks: Mapping[bytes, bytes | None], puts: Mapping[bytes, bytes | None]
    ) -> None:
        """Write if nothing changed meanwhile. Raises FsError(EAGAIN) when something did."""
        reply, _ = await self._meta.call(RepairRecords(checks=dict(checks), puts=dict(puts)))
        assert isinstance(reply, Done)

    async def has(self, server_id: str, block_ids: Sequence[BlockId]) -> tuple[bool, ...]:
        """Which of these (≤ HAS_BLOCKS_MAX) the server can read now."""
        assert len(block_ids) <= HAS_BLOCKS_MAX
        request = HasBlocks(block_ids=tuple(block_ids))
        reply, _ = await self._chunks[server_id].call(request)
        assert isinstance(reply, HasBlocksReply)
        assert len(reply.has) == len(block_ids)
        return reply.has

    async def inventory(self, server_id: str) -> AsyncIterator[tuple[BlockId, ...]]:
        """All blocks of a server, page by page, in order of id."""
        after = BlockId(b"")
        while True:
            reply, _ = await self._chunks[server_id].call(ListBlocks(after=after))
            assert isinstance(reply, ListBlocksReply)
            if reply.block_ids:
                yield reply.block_ids
                after = reply.block_ids[-1]
            if reply.is_last:
                return

    async def verify(self, server_id: str, block_ids: Sequence[BlockId]) -> tuple[str, ...]:
        """The server's verdicts after reading and hashing these again."""
        request = VerifyBlocks(block_ids=tuple(block_ids))
        reply, _ = await self._chunks[server_id].call(request, timeout_s=VERIFY_TIMEOUT_S)
        assert isinstance(reply, VerifyBlocksReply)
        assert len(reply.verdicts) == len(block_ids)
        return reply.verdicts

    async def copy_block(self, block_id: BlockId, source_id: str, target_id: str) -> None:
        """Make one more copy; the target verifies it before it answers (I2)."""
        reply, payload = await self._chunks[source_id].call(GetBlock(block_id=block_id))
        assert isinstance(reply, BlockReply)
        stored, _ = await self._chunks[target_id].call(PutBlock(header=reply.header), payload)
        assert isinstance(stored, Done)


@asynccontextmanager
async def open_servers(
    environment: Environment, addresses: Sequence[str]
) -> AsyncIterator[tuple[Servers, list[str]]]:
    """Links for one check, and the chunk servers that did not answer, in words.

    Raises UserError when no metadata server answers.
    """
    assert addresses
    async with AsyncExitStack() as stack:
        meta, status = await _first_meta(stack, environment, addresses)
        chunks: dict[str, RpcClient[ChunkReply]] = {}
        unreachable: list[str] = []
        for server in status.cluster_map.servers:
            if server.state is ServerState.OUT:
                continue
            client: RpcClient[ChunkReply] = RpcClient(environment, server.address, ChunkReply)
            await stack.enter_async_context(client)
            if problem := await _why_silent(client, server):
                unreachable.append(problem)
            else:
                chunks[server.server_id] = client
        yield Servers(meta, status, chunks), unreachable


async def _first_meta(
    stack: AsyncExitStack, environment: Environment, addresses: Sequence[str]
) -> tuple[RpcClient[MetaReply], StatusReply]:
    problems = []
    for address in addresses:
        meta: RpcClient[MetaReply] = RpcClient(environment, address, MetaReply)
        await stack.enter_async_context(meta)
        try:
            reply, _ = await meta.call(GetStatus(), timeout_s=FIRST_ANSWER_TIMEOUT_S)
        except DfsError as error:
            problems.append(str(error))
            continue
        assert isinstance(reply, StatusReply)
        return meta, reply
    raise UserError("no metadata server answers: " + "; ".join(problems))


async def _why_silent(client: RpcClient[ChunkReply], server: ChunkServer) -> str:
    """Why the server cannot be asked; empty if it can."""
    try:
        await client.call(HasBlocks(block_ids=()), timeout_s=FIRST_ANSWER_TIMEOUT_S)
    except Disconnected as error:
        return f"chunk server {server.server_id} at {server.address}: {error}"
    return ""
