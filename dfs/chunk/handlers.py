"""One request → the store → one answer. No socket in sight."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

import trio

from dfs.chunk.budget import ByteBudget
from dfs.core.messages import (
    BlockReply,
    ChunkReply,
    ChunkRequest,
    ChunkStatusReply,
    DeleteBlocks,
    Done,
    GetBlock,
    GetChunkStatus,
    HasBlocks,
    HasBlocksReply,
    ListBlocks,
    ListBlocksReply,
    PutBlock,
    VerifyBlocks,
    VerifyBlocksReply,
)
from dfs.errors import Fenced, FsError
from dfs.limits import BLOCK_ID_BYTES, HAS_BLOCKS_MAX, PUTS_IN_MEMORY_BYTES_MAX
from dfs.version import version

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dfs.chunk.disk import Buffer
    from dfs.chunk.identity import Identity
    from dfs.chunk.store import BlockStore
    from dfs.types import BlockId

LIST_BLOCKS_MAX: Final = 65_536
Answer = ChunkReply | tuple[ChunkReply, "Buffer"]


class ChunkHandlers:
    """Answers the requests of the chunk service from one store."""

    def __init__(self, store: BlockStore, identity: Identity) -> None:
        self._store = store
        self._identity = identity
        self._newest_delete = 0
        self._started_s = trio.current_time()
        self._puts_in_memory = ByteBudget(PUTS_IN_MEMORY_BYTES_MAX)

    async def handle(self, request: ChunkRequest, payload: Buffer, connection: object) -> Answer:
        """The reply to one request. Raises the DfsErrors that the message's docstring names, and
        FsError(EINVAL) for a request that makes no sense."""
        assert connection is not None
        match request:
            case PutBlock():
                return await self._put(request, payload)
            case GetBlock():
                return await self._get(request)
            case HasBlocks():
                _check_ids(request.block_ids)
                return HasBlocksReply(has=tuple(await self._store.has(request.block_ids)))
            case VerifyBlocks():
                _check_ids(request.block_ids)
                verdicts = await self._store.verify(request.block_ids)
                return VerifyBlocksReply(verdicts=tuple(verdicts))
            case ListBlocks():
                return await self._list(request)
            case DeleteBlocks():
                return await self._delete(request)
            case GetChunkStatus():
                return await self._status()

    async def _put(self, request: PutBlock, payload: Buffer) -> Answer:
        _check_ids((request.header.block_id,))
        async with self._puts_in_memory.hold(len(payload)):
            await self._store.put(request.header, payload)
        return Done()

    async def _delete(self, request: DeleteBlocks) -> Answer:
        """Deletions take effect in order of arrival; one that was overtaken must not at all: what
        it names may have been uploaded since."""
        _check_ids(request.block_ids)
        if request.order < self._newest_delete:
            raise Fenced(f"deletion {request.order} came after {self._newest_delete}")
        self._newest_delete = request.order
        await self._store.delete(request.block_ids)
        return Done()

    async def _get(self, request: GetBlock) -> Answer:
        _check_ids((request.block_id,))
        header, stored = await self._store.get(
            request.block_id, request.first_frame, request.end_frame
        )
        return BlockReply(header=header), stored

    async def _list(self, request: ListBlocks) -> Answer:
        if not 0 < request.limit <= LIST_BLOCKS_MAX:
            raise FsError(errno.EINVAL, f"a limit of {request.limit} blocks")
        ids, is_last = await self._store.list_blocks(request.after, request.limit)
        return ListBlocksReply(block_ids=tuple(ids), is_last=is_last)

    async def _status(self) -> Answer:
        status = await self._store.status()
        return ChunkStatusReply(
            server_id=self._identity.server_id,
            cluster_id=self._identity.cluster_id,
            space=status.space,
            block_count=status.block_count,
            corrupt_count=status.corrupt_count,
            version=version(),
            uptime_s=trio.current_time() - self._started_s,
        )


def _check_ids(block_ids: Sequence[BlockId]) -> None:
    if len(block_ids) > HAS_BLOCKS_MAX:
        raise FsError(errno.EINVAL, f"{len(block_ids)} blocks in one request")
    if any(len(block_id) != BLOCK_ID_BYTES for block_id in block_ids):
        raise FsError(errno.EINVAL, f"a block id has {BLOCK_ID_BYTES} bytes")
