"""Blocks in append-only segments: the store of a real chunk server.

Puts verify in worker threads, gather in one queue, and are written by one writer task with one
sync for all that gathered (I3). Reads need no lock: a record never changes where it lies; when
compaction moved it meanwhile, the read looks again.

    who                         may
    any task                    read; append to the queue
    the writer task (`run`)     take from the queue, have a worker thread write; nobody else writes

The queue's order is the order of effects: a put that came after a delete of the same block is
written after it.
"""

from __future__ import annotations

import copy
import logging
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

import trio

from dfs.chunk.block_reader import BlockReader, Misplaced, prepare_put
from dfs.chunk.index import BlockIndex
from dfs.chunk.recovery import recover
from dfs.chunk.segment_log import SegmentLog, disk_failure
from dfs.chunk.segment_writer import Delete, MarkBad, Mutation, Put, SegmentWriter
from dfs.chunk.space import SpaceAccount
from dfs.chunk.store import ABSENT, CORRUPT, GOOD, BlockStore, StoreStatus
from dfs.engine.api import EngineDamaged
from dfs.errors import BlockNotFound, CorruptBlock, DfsError, NoSpace
from dfs.limits import INDEX_CHECKPOINT_S, MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dfs.chunk.block_reader import Prepared
    from dfs.chunk.disk import Buffer, Disk
    from dfs.chunk.identity import Identity
    from dfs.chunk.index import BlockLocation
    from dfs.chunk.segment_writer import Step
    from dfs.config import ChunkConfig
    from dfs.core.compaction import SegmentUsage
    from dfs.core.messages import BlockHeader
    from dfs.engine.api import Engine
    from dfs.environment import Environment
    from dfs.types import BlockId

WRITE_STEP_BYTES_MAX: Final = 32 * MIB
"""Payload bytes that one sync covers at most."""
_CLOSE_TIMEOUT_S: Final = 30.0

T = TypeVar("T")

logger = logging.getLogger(__name__)


class BadCopy(CorruptBlock):
    """A copy was just found bad."""

    def __init__(self, location: BlockLocation, problem: CorruptBlock) -> None:
        super().__init__(str(problem))
        self.location = location
        self.problem = problem


class _Pending:
    """A mutation in the queue and who waits for it."""

    __slots__ = ("done", "error", "mutation", "size")

    def __init__(self, mutation: Mutation) -> None:
        self.mutation = mutation
        self.size = mutation.size if isinstance(mutation, Put) else 0
        self.done = trio.Event()
        self.error: DfsError | None = None


class SegmentStore(BlockStore):
    """The segments of one data directory. `run` must be running for anything to be written."""

    def __init__(
        self,
        environment: Environment,
        index: BlockIndex,
        writer: SegmentWriter,
        reader: BlockReader,
        space: SpaceAccount,
    ) -> None:
        self._environment = environment
        self._index = index
        self._writer = writer
        self._reader = reader
        self._space = space
        self._queue: deque[_Pending] = deque()
        self._queue_filled = trio.Event()
        self._puts: dict[BlockId, _Pending] = {}
        """Puts under way that a put of the same block may join."""
        self._deletes: dict[BlockId, int] = {}
        """How many deletes of a block are under way."""
        self._bad: dict[BlockId, None] = {}
        self._writing = trio.Lock()
        self._index_error: EngineDamaged | None = None

    @classmethod
    async def open(
        cls,
        environment: Environment,
        disk: Disk,
        engine: Engine,
        identity: Identity,
        config: ChunkConfig,
    ) -> SegmentStore:
        """Recover what the disk holds. Raises EngineDamaged (the index is of no use), FormatTooNew,
        WrongCluster, DfsError."""
        index = BlockIndex(engine, identity.server_id)
        log = SegmentLog(disk, identity, segment_bytes_max=config.segment_bytes)
        recovered = await environment.run_blocking(recover, disk, index, identity)
        if recovered.number:
            log.resume(recovered.number, recovered.end, is_writable=recovered.is_writable)
        space = SpaceAccount(
            disk,
            index,
            capacity_bytes=config.capacity_bytes,
            reserve_bytes=config.reserve_bytes,
        )
        writer = SegmentWriter(disk, log, index)
        reader = BlockReader(disk, identity.server_id)
        store = cls(environment, index, writer, reader, space)
        await store._refresh_space()
        return store

    # ------------------------------------------------------------ BlockStore

    async def put(self, header: BlockHeader, stored: Buffer) -> None:
        block_id = header.block_id
        prepared = await self._with_index(self._prepare, header, stored)
        if prepared is None:
            return
        put = Put(block_id, prepared.encoded_header, stored, prepared.checksum)
        await self._promise(put.size)
        pending = self._puts.get(block_id)
        if pending is None:
            pending = self._puts[block_id] = self._enqueue(put)
        else:
            self._space.settle(put.size)
        await _outcome(pending)

    async def get(
        self, block_id: BlockId, first_frame: int = 0, end_frame: int | None = None
    ) -> tuple[BlockHeader, Buffer]:
        try:
            return await self._with_index(
                self._read,
                block_id,
                lambda at: self._reader.read(block_id, at, first_frame, end_frame),
            )
        except BadCopy as error:
            await self._condemn_copy(block_id, error)
            raise

    async def has(self, block_ids: Sequence[BlockId]) -> list[bool]:
        locations = await self._with_index(self._index.get, block_ids)
        return [location is not None and not location.is_bad for location in locations]

    async def verify(self, block_ids: Sequence[BlockId]) -> list[str]:
        return [await self._verify_one(block_id) for block_id in block_ids]

    async def list_blocks(self, after: BlockId, limit: int) -> tuple[list[BlockId], bool]:
        assert limit > 0
        return await self._with_index(self._index.page_of_had, after, limit)

    async def delete(self, block_ids: Sequence[BlockId]) -> None:
        pending = [self._enqueue_delete(block_id) for block_id in dict.fromkeys(block_ids)]
        for each in pending:
            await _outcome(each)

    async def status(self) -> StoreStatus:
        await self._refresh_space()
        return StoreStatus(
            space=self._space.usage,
            block_count=self._index.block_count,
            corrupt_count=len(self._bad),
        )

    # ------------------------------------------------------------ the compactor's side

    @property
    def reader(self) -> BlockReader:
        return self._reader

    @property
    def index(self) -> BlockIndex:
        """To look up only: changes go through `mutate`."""
        return self._index

    @property
    def space(self) -> SpaceAccount:
        return self._space

    async def usages(self) -> list[SegmentUsage]:
        """Of every segment, by number, the last one being the one that is written: of a moment
        between two steps of the writer."""
        async with self._writing:
            return [copy.deepcopy(usage) for usage in self._index.usages]

    async def mutate_all(self, mutations: Sequence[Mutation]) -> None:
        """Have mutations written, in order; durable when it returns. Raises DfsError."""
        for pending in [self._enqueue(mutation) for mutation in mutations]:
            await _outcome(pending)

    # ------------------------------------------------------------ the writer

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write what is queued and keep checkpoints, until cancelled; then write a last one.

        Raises EngineDamaged when the index cannot be used any more.
        """
        task_status.started()
        next_checkpoint_s = trio.current_time() + INDEX_CHECKPOINT_S
        try:
            while True:
                with trio.move_on_at(next_checkpoint_s):
                    await self._wait_for_work()
                if self._queue:
                    await self._write_step()
                if trio.current_time() >= next_checkpoint_s:
                    await self._checkpoint()
                    next_checkpoint_s = trio.current_time() + INDEX_CHECKPOINT_S
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + _CLOSE_TIMEOUT_S):
                await self._checkpoint(is_last=True)

    async def _wait_for_work(self) -> None:
        while not self._queue:
            if self._index_error is not None:
                raise self._index_error
            self._queue_filled = trio.Event()
            await self._queue_filled.wait()

    async def _write_step(self) -> None:
        batch = self._next_batch()
        mutations = [pending.mutation for pending in batch]
        async with self._writing:
            step = await self._environment.run_blocking(self._step, mutations)
            await self._environment.fault_point("a step is durable, nobody is answered")
        assert 0 < step.count <= len(batch)
        for _ in range(step.count):
            self._finish(self._queue.popleft(), step.error)
        if isinstance(step.error, EngineDamaged):
            raise step.error

    def _step(self, mutations: Sequence[Mutation]) -> Step:
        step = self._writer.step(mutations)
        with suppress(OSError):  # a disk that fails will say so when it is written
            self._space.refresh()
        return step

    def _next_batch(self) -> list[_Pending]:
        batch: list[_Pending] = []
        size = 0
        for pending in self._queue:
            size += pending.size
            if batch and size > WRITE_STEP_BYTES_MAX:
                break
            batch.append(pending)
        return batch

    def _finish(self, pending: _Pending, error: DfsError | None) -> None:
        """Tell who waits. From here on the next put or delete of the block looks at the index."""
        mutation = pending.mutation
        if isinstance(mutation, Put):
            if mutation.source is None:
                self._space.settle(mutation.size)
            if self._puts.get(mutation.block_id) is pending:
                del self._puts[mutation.block_id]
        elif isinstance(mutation, Delete):
            self._deletes[mutation.block_id] -= 1
            if self._deletes[mutation.block_id] == 0:
                del self._deletes[mutation.block_id]
        if isinstance(mutation, Put | Delete) and error is None:
            self._bad.pop(mutation.block_id, None)
        pending.error = error
        pending.done.set()

    async def _checkpoint(self, *, is_last: bool = False) -> None:
        """Write the index. A failure costs the next start a longer replay, nothing else."""
        async with self._writing:
            if self._index.recent_count == 0:
                return
            try:
                await self._environment.run_blocking(self._writer.checkpoint)
            except DfsError as error:
                if isinstance(error, EngineDamaged) and not is_last:
                    raise
                logger.warning("index: no checkpoint could be written: %s", error)

    # ------------------------------------------------------------ the queue

    def _enqueue(self, mutation: Mutation) -> _Pending:
        pending = _Pending(mutation)
        self._queue.append(pending)
        self._queue_filled.set()
        return pending

    def _enqueue_delete(self, block_id: BlockId) -> _Pending:
        self._puts.pop(block_id, None)  # a later put must not join one that this delete undoes
        self._deletes[block_id] = self._deletes.get(block_id, 0) + 1
        return self._enqueue(Delete(block_id))

    def _prepare(self, header: BlockHeader, stored: Buffer) -> Prepared | None:
        """Verify a put; None when the block is had and stays. Blocking."""
        # Asked before the index: a delete leaves the former only after it changed the latter.
        is_being_deleted = header.block_id in self._deletes
        location = self._index.get([header.block_id])[0]
        if location is not None and not location.is_bad and not is_being_deleted:
            return None
        return prepare_put(header, stored)

    async def _promise(self, size: int) -> None:
        if self._space.promise(size):
            return
        await self._refresh_space()
        if not self._space.promise(size):
            free_mib = self._space.usage.free_bytes // MIB
            raise NoSpace(f"no space for {size} bytes: {free_mib} MiB are free above the reserve")

    async def _refresh_space(self) -> None:
        try:
            await self._environment.run_blocking(self._space.refresh)
        except OSError as error:
            raise disk_failure(error, "the disk does not tell its free space") from error

    # ------------------------------------------------------------ reads

    async def _with_index(self, function: Callable[..., T], *arguments: object) -> T:
        """Run what asks the index in a worker thread. An index that fails ends the server."""
        try:
            return await self._environment.run_blocking(function, *arguments)
        except EngineDamaged as error:
            self._index_error = error
            self._queue_filled.set()
            raise

    def _read(self, block_id: BlockId, read: Callable[[BlockLocation], T]) -> T:
        """What `read` gives for where the block lies; looks again when it moved. Blocking. Raises
        BlockNotFound, CorruptBlock for a known bad copy, BadCopy for a new one."""
        bad: BadCopy | None = None
        while True:
            location = self._index.get([block_id])[0]
            if location is None:
                raise BlockNotFound(f"block {block_id.hex()} is not here")
            if location.is_bad:
                raise CorruptBlock(f"the copy of block {block_id.hex()} here is known to be bad")
            if bad is not None and location.is_same_place(bad.location):
                raise bad
            try:
                return read(location)
            except CorruptBlock as error:
                # Or its segment was compacted away since we looked: look again.
                bad = BadCopy(location, error)

    async def _verify_one(self, block_id: BlockId) -> str:
        try:
            await self._with_index(
                self._read, block_id, lambda location: self._reader.verify(block_id, location)
            )
        except BlockNotFound:
            return ABSENT
        except BadCopy as error:
            await self._condemn_copy(block_id, error)
            return CORRUPT
        except CorruptBlock:
            return CORRUPT
        return GOOD

    async def _condemn_copy(self, block_id: BlockId, bad: BadCopy) -> None:
        """From now on the block is not had, and a put of it is written."""
        logger.warning(
            "block %s: bad copy in segment %d at %d: %s",
            block_id.hex(),
            bad.location.segment,
            bad.location.offset,
            bad,
        )
        if isinstance(bad.problem, Misplaced):
            logger.warning("index: it does not fit the segments, the next start rebuilds it")
            self._index.distrust()
        self._bad[block_id] = None
        try:
            await self.mutate_all([MarkBad(block_id, bad.location)])
        except DfsError as error:
            logger.warning("block %s: cannot be marked bad: %s", block_id.hex(), error)


async def _outcome(pending: _Pending) -> None:
    await pending.done.wait()
    if pending.error is not None:
        raise type(pending.error)(str(pending.error)) from pending.error
