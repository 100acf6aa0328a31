"""Group commit: changes gather in the open batch while the one before is being written.

A change is applied at once, on an overlay of its own that joins the open batch as a whole or is
dropped. One commit, one sync, carries all that gathered meanwhile; answers go out after it (I3).
The newest state is a stack: the committed records, the batch being written, the open batch. An
answer that shows a record changed by one of the two batches waits for it, also if it only reads.

When a batch cannot be written (the disk is full), everything stacked on it is dropped with it, and
the stack begins anew on the committed records: clients of the failed batch are told why, clients of
the one above are told to try again. Being fenced, or an engine that breaks, ends the server (I7).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar

import trio
from msgspec.structs import replace

from dfs.core.namespace.keys import COUNTERS_KEY, INODE, table_of
from dfs.core.namespace.records import Counters, Inode, encode_record
from dfs.core.namespace.view import Missing, Overlay
from dfs.engine.api import TooLarge
from dfs.errors import FsError, NoSpace, Overloaded, RetryableError
from dfs.meta.batches import Batch, BatchFull

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from dfs.core.namespace.records import Record
    from dfs.core.namespace.view import ScanRange, View
    from dfs.engine.api import EngineLimits
    from dfs.errors import DfsError
    from dfs.meta.record_store import RecordStore
    from dfs.meta.shards import ShardOwner

R = TypeVar("R", bound="Record")
T = TypeVar("T")

SETBACKS: Final = (NoSpace, TooLarge, RetryableError, FsError)
"""What a change may fail with though the server is well. Everything else ends it."""


class Witness:
    """The newest state, and which unwritten batch the reader has seen something of. Is a View."""

    def __init__(self, open_batch: Batch, writing: Batch | None) -> None:
        self._view = open_batch.overlay
        self._layers = (open_batch,) if writing is None else (open_batch, writing)
        self.seen: Batch | None = None
        """The newest batch that changed what was read: it lands last of all, so whoever waits for
        it has waited for the other too (I3)."""

    def get(self, key: bytes, record_type: type[R]) -> R | None:
        for batch in self._layers:
            if batch is self.seen:
                break
            if key in batch.changes:
                self.seen = batch
                break
        assert self.seen is self._layers[0] or key not in self._layers[0].changes
        return self._view.get(key, record_type)

    def scan(self, scan_range: ScanRange, record_type: type[R]) -> list[tuple[bytes, R]]:
        for batch in self._layers:
            if batch is self.seen:
                break
            if batch.overlay.changes_in(scan_range.start, scan_range.end):
                self.seen = batch
                break
        return self._view.scan(scan_range, record_type)


class Committer:
    """Applies changes, and writes them batch by batch. `run` carries it."""

    def __init__(self, store: RecordStore, owner: ShardOwner, limits: EngineLimits) -> None:
        self._store = store
        self._owner = owner
        self._limits = limits
        self._open = Batch(store, limits)
        self._writing: Batch | None = None
        self._has_changes = trio.Event()
        self.landed_count = 0
        """Batches written in this server's life."""

    # ------------------------------------------------------------ reads

    async def read(self, function: Callable[[View], T]) -> T:
        """What `function` finds in the newest state, once all that it saw is durable (I3).

        It runs without an await, perhaps several times. What it raises waits like an answer.
        """
        while True:
            answer, seen = await self._store.run(lambda: self._look(function))
            if seen is not None and not await seen.has_landed():
                continue
            return answer()

    def _look(self, function: Callable[[View], T]) -> tuple[Callable[[], T], Batch | None]:
        """How to answer, and the batch to wait for first."""
        witness = Witness(self._open, self._writing)
        try:
            result = function(witness)
        except FsError as error:
            return partial(_raise, error), witness.seen
        return lambda: result, witness.seen

    # ------------------------------------------------------------ changes

    @property
    def newest(self) -> Batch | None:
        """The newest batch with changes that are not durable yet."""
        return self._open if self._open.changes else self._writing

    def apply(self, function: Callable[[Overlay], T]) -> tuple[T, Batch]:
        """What `function` returns; its changes are part of the open batch.

        Without an await. Nothing is changed when it raises: what the function raises, Missing,
        BatchFull.
        """
        batch = self._open
        overlay = Overlay(batch.overlay)
        result = function(overlay)
        if overlay.changes:
            born = self._count(overlay)
            batch.absorb(overlay.changes)
            for inode in born:
                self._store.use(inode)
            self._has_changes.set()
        return result, batch

    def _count(self, overlay: Overlay) -> list[Inode]:
        """Bring the totals in step with changed inodes. Returns the new ones."""
        count = stored_bytes = 0
        born = []
        for key, record in overlay.changes.items():
            if table_of(key) != INODE:
                continue
            old = _old_inode(overlay.base, key)
            if isinstance(record, Inode):
                count += 1
                stored_bytes += record.stored_bytes
                if old is None:
                    born.append(record)
            if old is not None:
                count -= 1
                stored_bytes -= old.stored_bytes
        if count or stored_bytes:
            counters = overlay.get(COUNTERS_KEY, Counters)
            assert counters is not None
            total_count = counters.inode_count + count
            total_bytes = counters.stored_bytes + stored_bytes
            changed = replace(counters, inode_count=total_count, stored_bytes=total_bytes)
            overlay.put(COUNTERS_KEY, changed)
        return born

    async def change(self, function: Callable[[Overlay], T]) -> tuple[T, Batch]:
        """As `apply`, after fetching what is missing and waiting for room."""
        while True:
            try:
                return await self._store.run(lambda: self.apply(function))
            except BatchFull as full:
                await full.batch.sealed.wait()

    async def commit(self, function: Callable[[Overlay], T]) -> T:
        """As `change`, once it is durable (I3). Raises what the batch failed with."""
        result, _ = await self.change(function)
        # Without changes of its own it may have seen what others changed.
        newest = self.newest
        if newest is not None:
            await newest.landed()
        return result

    async def overcome(self, obstacle: Missing | BatchFull) -> None:
        """Return when what stood in the way of `apply` may be gone."""
        if isinstance(obstacle, BatchFull):
            await obstacle.batch.sealed.wait()
        else:
            await self._store.fetch(obstacle)

    def is_unwritten(self, key: bytes) -> bool:
        """A change of this key is not durable yet."""
        is_in_writing = self._writing is not None and key in self._writing.changes
        return is_in_writing or key in self._open.changes

    def relying(self) -> AbstractContextManager[None]:
        """Inside, what `overcome` fetched stays in memory."""
        return self._store.relying()

    # ------------------------------------------------------------ writing

    async def run(self) -> None:
        """Write batches as they come, until cancelled; a batch in flight is finished (I3).

        Raises Fenced when the shard was lost (I7), and what the engine breaks with.
        """
        while True:
            await self._has_changes.wait()
            self._has_changes = trio.Event()
            batch = self._writing = self._open
            batch.sealed.set()
            self._open = Batch(batch.overlay, self._limits)
            await self._write(batch)

    async def _write(self, batch: Batch) -> None:
        puts, deletes = {}, []
        for key, record in batch.changes.items():
            if record is None:
                deletes.append(key)
            else:
                puts[key] = encode_record(record)
        try:
            await self._owner.commit(puts, deletes)
        except (NoSpace, TooLarge) as error:
            self._drop(batch, error)
        else:
            self._land(batch)

    def _land(self, batch: Batch) -> None:
        assert batch is self._writing
        self._store.land(batch.changes)
        self._open.overlay.base = self._store
        self._writing = None
        self.landed_count += 1
        batch.end(None)

    def _drop(self, batch: Batch, error: DfsError) -> None:
        """Nothing of the batch was written, so nothing that stands on it may remain."""
        assert batch is self._writing
        above = self._open
        self._open = Batch(self._store, self._limits)
        self._writing = None
        self._has_changes = trio.Event()
        batch.end(error)
        above.end(Overloaded(f"dropped with a batch that could not be written: {error}"))


def _old_inode(view: View, key: bytes) -> Inode | None:
    """None also for damaged bytes, which only a repair overwrites; fsck counts anew after it."""
    try:
        return view.get(key, Inode)
    except FsError:
        return None


def _raise(error: FsError) -> NoReturn:
    raise error
