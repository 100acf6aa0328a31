"""Gives back the space of dead blocks: copies what is needed out of a segment, then removes it.

What to compact is `core/compaction.py`'s choice. Copies go through the store's queue like puts, at
a bounded rate, so clients hardly notice. A crash at any moment leaves every block in at least one
place: the segment is removed only after the copies are durable and the index says so.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio

from dfs.chunk.recovery import scan_file
from dfs.chunk.segment_log import disk_failure
from dfs.chunk.segment_writer import KeepTombstone, MarkBad, Put, RetireSegment, SealSegment
from dfs.core.compaction import choose_compaction
from dfs.core.segment_scan import Found
from dfs.core.segments import (
    SEGMENT_HEADER_BYTES,
    Tombstone,
    encode_header,
    payload_checksum,
    segment_key,
)
from dfs.engine.api import EngineDamaged
from dfs.errors import CorruptBlock, DfsError
from dfs.limits import MIB
from dfs.types import BlockId

if TYPE_CHECKING:
    from dfs.chunk.block_reader import BlockReader
    from dfs.chunk.disk import Disk
    from dfs.chunk.index import BlockLocation
    from dfs.chunk.segment_writer import Mutation
    from dfs.chunk.store_segments import SegmentStore
    from dfs.core.compaction import SegmentUsage
    from dfs.core.segments import SegmentRecord
    from dfs.environment import Environment
    from dfs.types import ServerId

COMPACTION_PAUSE_S: Final = 5.0
"""Between two looks when there was nothing to do."""
COMPACTION_BYTES_PER_S: Final = 32 * MIB
_BATCH_BYTES: Final = 4 * MIB
_BATCH_RECORDS: Final = 256
_PAGE_RECORDS: Final = 1000

logger = logging.getLogger(__name__)


class Compactor:
    """Compacts the segments of one store."""

    def __init__(
        self,
        environment: Environment,
        disk: Disk,
        server_id: ServerId,
        store: SegmentStore,
        *,
        segment_bytes: int,
    ) -> None:
        self._environment = environment
        self._disk = disk
        self._server_id = server_id
        self._store = store
        self._segment_bytes = segment_bytes

    async def run(self) -> None:
        """Compact whenever it pays, until cancelled."""
        while True:
            try:
                is_done = await self.step()
            except EngineDamaged:
                raise  # the index is of no use any more: the server ends
            except DfsError as error:
                logger.warning("compaction: %s", error)
                is_done = False
            if not is_done:
                await trio.sleep(COMPACTION_PAUSE_S)

    async def step(self) -> bool:
        """Compact one segment, if one is worth it. Raises DfsError when the disk or the index
        fails; nothing is lost then."""
        usages = await self._store.usages()
        if not usages:
            return False
        *sealed, written = usages
        space = self._store.space
        chosen = choose_compaction(
            sealed, free_bytes=space.copyable_bytes, is_space_short=space.is_short
        )
        if chosen is not None:
            await self._compact(chosen)
        elif self._is_worth_sealing(written):
            await self._store.mutate_all([SealSegment(written.number)])
        else:
            return False
        return True

    def _is_worth_sealing(self, written: SegmentUsage) -> bool:
        """The segment that is being written can be compacted only once it is sealed."""
        is_large = written.end_bytes >= self._segment_bytes // 4
        return is_large and written.dead_bytes > written.needed_bytes

    async def _compact(self, usage: SegmentUsage) -> None:
        number = usage.number
        if usage.needed_bytes:
            await self._copy_needed(_NeededRecords(self._disk, self._server_id, self._store, usage))
        [left] = [each for each in await self._store.usages() if each.number == number]
        if left.live_bytes:
            # The walk did not find records that the index points to: their headers are damaged.
            await self._give_up_unreadable(number)
        await self._environment.fault_point("a segment is copied, the old one is there")
        await self._store.mutate_all([RetireSegment(number)])
        freed = usage.end_bytes - usage.needed_bytes
        logger.info("segment %d: compacted, %d MiB given back", number, freed // MIB)

    async def _copy_needed(self, walk: _NeededRecords) -> None:
        while True:
            started_s = trio.current_time()
            batch = await self._environment.run_blocking(walk.next_batch)
            if not batch:
                return
            await self._store.mutate_all(batch)
            size = sum(mutation.size for mutation in batch if isinstance(mutation, Put))
            await trio.sleep_until(started_s + size / COMPACTION_BYTES_PER_S)

    async def _give_up_unreadable(self, number: int) -> None:
        """Go by the index: what cannot be read is not had from now on."""
        run_blocking, index, reader = (
            self._environment.run_blocking,
            self._store.index,
            self._store.reader,
        )
        after = BlockId(b"")
        is_last = False
        while not is_last:
            entries, is_last = await run_blocking(index.page, after, _PAGE_RECORDS)
            for block_id, location in entries:
                after = block_id
                if location.segment == number and not location.is_bad:
                    mutation = await run_blocking(_copy_of, reader, block_id, location)
                    await self._store.mutate_all([mutation])


class _NeededRecords:
    """Walks a segment and reads what is needed of it. Blocking."""

    def __init__(
        self, disk: Disk, server_id: ServerId, store: SegmentStore, usage: SegmentUsage
    ) -> None:
        key = segment_key(server_id, usage.number)
        self._number = usage.number
        self._store = store
        self._events = scan_file(
            disk,
            key,
            usage.number,
            SEGMENT_HEADER_BYTES,
            usage.end_bytes,
            is_payload_checked=False,
        )

    def next_batch(self) -> list[Mutation]:
        """What to write so that the next stretch of the segment is not needed; empty at the end.
        Raises DfsError."""
        batch: list[Mutation] = []
        size = 0
        try:
            for event in self._events:
                mutation = self._mutation_of(event.record) if isinstance(event, Found) else None
                if mutation is None:
                    continue
                batch.append(mutation)
                size += mutation.size if isinstance(mutation, Put) else 0
                if size >= _BATCH_BYTES or len(batch) >= _BATCH_RECORDS:
                    break
        except OSError as error:
            raise disk_failure(error, f"segment {self._number} cannot be read") from error
        return batch

    def _mutation_of(self, record: SegmentRecord) -> Mutation | None:
        if isinstance(record.header, Tombstone):
            target = record.header.segment
            is_needed = target != self._number and self._store.index.is_tombstone_needed(target)
            return KeepTombstone(record.header) if is_needed else None
        location = self._store.index.get([record.block_id])[0]
        is_here = (
            location is not None
            and not location.is_bad
            and location.segment == self._number
            and location.offset == record.offset
        )
        if not is_here:
            return None
        assert location is not None
        return _copy_of(self._store.reader, record.block_id, location)


def _copy_of(reader: BlockReader, block_id: BlockId, location: BlockLocation) -> Mutation:
    """What moves a block to the segment being written, or tells that its copy is bad. Blocking."""
    try:
        header, payload = reader.read_whole(block_id, location)
    except CorruptBlock as error:
        logger.warning(
            "block %s: bad copy in segment %d at %d, not kept: %s",
            block_id.hex(),
            location.segment,
            location.offset,
            error,
        )
        return MarkBad(block_id, location)
    checksum = payload_checksum(payload)
    return Put(block_id, encode_header(header), payload, checksum, source=location)
