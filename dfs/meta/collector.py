"""Deletes blocks that no extent names any more (I6).

The order, and why no step can be left out or swapped:

1. **Condemn**, in a commit. Until then a commit that names the block takes it out of the queue and
   everything stops here. From then on such a commit is refused, so the count stays zero for good.
2. **Delete** at every chunk server of the map that is not out. The map is read after step 1, and
   all of them must answer, so afterwards no copy is left that a client could be told of. If one
   does not answer, the blocks stay condemned and the round ends; nothing was lost but time. To keep
   that rare, nothing is condemned while a server is down.
3. **Count** the deletion (`deletions.py`): a commit that relies on an upload from before it is
   refused from now on, whatever became of the block's record.
4. **Forget**, in a commit. A client that was refused uploads again, and its commit makes the block
   a new one.

A crash after 1 or 2 leaves condemned blocks, which the next round finds in the queue again. A crash
after 3 loses the count; a new owner of the shard begins above every count of the one before.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from dfs.core.garbage import condemn, forget
from dfs.core.messages import ChunkReply, DeleteBlocks, Done
from dfs.core.namespace.keys import GARBAGE, block_id_of, block_key, garbage_key, table_range
from dfs.core.namespace.records import BlockRef, Garbage
from dfs.core.namespace.view import Together
from dfs.errors import DfsError, Disconnected, RemoteProtocolError
from dfs.limits import SCAN_RECORDS_MAX
from dfs.meta.committer import SETBACKS
from dfs.rpc.client import RpcClient
from dfs.types import ServerState

if TYPE_CHECKING:
    from dfs.core.namespace.view import Overlay, View
    from dfs.engine.api import Engine
    from dfs.environment import Environment
    from dfs.meta.cluster import Cluster
    from dfs.meta.committer import Committer
    from dfs.meta.deletions import Deletions
    from dfs.types import BlockId, ChunkServer

log = logging.getLogger(__name__)

ROUND_BLOCKS_MAX: Final = 20_000
STEP_BLOCKS: Final = 200
"""Blocks per commit: two records each."""
DELETE_BLOCKS: Final = 2000
"""Blocks per request to a chunk server."""
REST_S: Final = 5.0
"""Pause after a round that found nothing, or could not be finished."""


class Collector:
    """Walks the garbage queue. `run` carries it."""

    def __init__(
        self,
        environment: Environment,
        engine: Engine,
        committer: Committer,
        cluster: Cluster,
        deletions: Deletions,
        grace_s: float,
    ) -> None:
        assert grace_s >= 0
        self._environment = environment
        self._engine = engine
        self._committer = committer
        self._cluster = cluster
        self._deletions = deletions
        self._grace_s = grace_s

    async def run(self) -> None:
        """Round after round, until cancelled."""
        while True:
            try:
                found = await self._round()
            except SETBACKS as error:
                log.warning("garbage stays for now: %s", error)
                found = False
            if not found:
                await trio.sleep(REST_S)

    async def _round(self) -> bool:
        """One walk: whether anything could be deleted."""
        queued = await self._environment.run_blocking(_queued, self._engine)
        if not queued:
            return False
        await trio.sleep(self._grace_s)
        if any(server.state is ServerState.DOWN for server in self._cluster.cluster_map.servers):
            return False
        condemned = await self._condemn(queued)
        if not condemned:
            return False
        await self._environment.fault_point("blocks are condemned, none is deleted")
        await self._delete(condemned)
        await self._environment.fault_point("blocks are deleted, the deletion is not counted")
        self._deletions.finish()
        await self._environment.fault_point("the deletion is counted, records are there")
        for step in _steps(condemned, STEP_BLOCKS):
            await self._committer.commit(partial(_forget, step))
        log.info("deleted %d blocks", len(condemned))
        return True

    async def _condemn(self, block_ids: list[BlockId]) -> list[BlockId]:
        """Those that are condemned now, durably."""
        condemned: list[BlockId] = []
        for step in _steps(block_ids, STEP_BLOCKS):
            condemned += await self._committer.commit(partial(_condemn, step))
        return condemned

    async def _delete(self, block_ids: list[BlockId]) -> None:
        """Have every server that is not out delete these. Raises what kept one from answering."""
        servers = self._cluster.cluster_map.servers
        problems: list[DfsError] = []

        async def delete_at(server: ChunkServer) -> None:
            try:
                await self._delete_at(server, block_ids)
            except DfsError as error:
                problems.append(error)

        self._order = self._deletions.next_order()
        async with trio.open_nursery() as nursery:
            for server in servers:
                if server.state is not ServerState.OUT:
                    nursery.start_soon(delete_at, server)
        if problems:
            raise Disconnected(f"a chunk server deletes nothing: {problems[0]}")

    async def _delete_at(self, server: ChunkServer, block_ids: list[BlockId]) -> None:
        client: RpcClient[ChunkReply] = RpcClient(self._environment, server.address, ChunkReply)
        async with client:
            for step in _steps(block_ids, DELETE_BLOCKS):
                request = DeleteBlocks(block_ids=tuple(step), order=self._order)
                reply, _ = await client.call(request)
                if not isinstance(reply, Done):
                    raise RemoteProtocolError(f"{server.address} answered {reply!r:.80}")


def _queued(engine: Engine) -> list[BlockId]:
    """The first blocks of the garbage queue, as committed."""
    start, end = table_range(GARBAGE)
    found: list[BlockId] = []
    while len(found) < ROUND_BLOCKS_MAX:
        rows = engine.scan(start, end, SCAN_RECORDS_MAX)
        found.extend(block_id_of(key) for key, _ in rows)
        if len(rows) < SCAN_RECORDS_MAX:
            break
        start = rows[-1][0] + b"\0"
    return found


def _steps(block_ids: list[BlockId], count: int) -> list[list[BlockId]]:
    return [block_ids[at : at + count] for at in range(0, len(block_ids), count)]


def _garbage(view: View, block_ids: list[BlockId]) -> list[BlockId]:
    """Those that are still in the queue; asks for all records at once."""
    with Together(view) as reads:
        found = [
            block_id
            for block_id in block_ids
            if reads.get(garbage_key(block_id), Garbage) is not None
            and reads.get(block_key(block_id), BlockRef) is not None
        ]
        for block_id in block_ids:
            reads.get(block_key(block_id), BlockRef)
    return found


def _condemn(block_ids: list[BlockId], overlay: Overlay) -> list[BlockId]:
    return [block_id for block_id in _garbage(overlay, block_ids) if condemn(overlay, block_id)]


def _forget(block_ids: list[BlockId], overlay: Overlay) -> None:
    for block_id in _garbage(overlay, block_ids):
        ref = overlay.get(block_key(block_id), BlockRef)
        if ref is not None and ref.is_condemned:
            forget(overlay, block_id)
