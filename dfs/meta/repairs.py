"""Writes what fsck found out: records put right, if nothing that it looked at changed since."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import msgspec

from dfs.core.leases import touched_by
from dfs.core.namespace.keys import COUNTERS_KEY, FENCE_KEY, INODE, VOLUME_KEY, table_of
from dfs.core.namespace.records import Counters, Inode, Record, decode_record
from dfs.core.namespace.view import Missing, Together
from dfs.errors import FsError
from dfs.limits import ENGINE_BATCH_RECORDS_MAX
from dfs.meta.batches import BatchFull
from dfs.meta.tables import record_type_of

if TYPE_CHECKING:
    from dfs.core.messages import RepairRecords
    from dfs.core.namespace.view import Overlay
    from dfs.meta.committer import Committer
    from dfs.meta.recalls import Recalls
    from dfs.meta.record_store import RecordStore


async def repair(
    request: RepairRecords, store: RecordStore, committer: Committer, recalls: Recalls
) -> None:
    """Write the records in one fenced batch like any other (I7); durable when this returns.

    Raises FsError: EAGAIN when a check no longer holds, EINVAL for what may not be written.
    """
    records = _decoded(request)
    async with recalls.way_for(touched_by(records)):
        await _write_checked(request, records, store, committer)


async def _write_checked(
    request: RepairRecords,
    records: dict[bytes, Record | None],
    store: RecordStore,
    committer: Committer,
) -> None:
    with store.relying():
        # What the totals are counted from has to be in memory, for nothing may come in between
        # the look at the checks and the change.
        await store.run(lambda: _read_old(store, records))
        values = await store.raw(list(request.checks))
        is_pending = any(committer.is_unwritten(key) for key in request.checks)
        if is_pending or values != list(request.checks.values()):
            raise FsError(errno.EAGAIN, "a record changed meanwhile")
        try:
            _, batch = committer.apply(lambda overlay: _write(overlay, records))
        except (Missing, BatchFull):
            raise FsError(errno.EAGAIN, "the server is busy") from None
    await batch.landed()


def _decoded(request: RepairRecords) -> dict[bytes, Record | None]:
    if not 0 < len(request.puts) <= ENGINE_BATCH_RECORDS_MAX // 2:
        raise FsError(errno.EINVAL, f"{len(request.puts)} records in one repair")
    records: dict[bytes, Record | None] = {}
    for key, value in request.puts.items():
        if key in (FENCE_KEY, VOLUME_KEY):
            raise FsError(errno.EINVAL, "a repair may not touch this record")
        try:
            record_type = record_type_of(key)
            records[key] = decode_record(record_type, value) if value is not None else None
        except (msgspec.MsgspecError, AssertionError, ValueError, IndexError) as error:
            raise FsError(errno.EINVAL, f"no record for {key.hex()}: {error}") from None
    return records


def _read_old(store: RecordStore, records: dict[bytes, Record | None]) -> None:
    with Together(store) as reads:
        reads.get(COUNTERS_KEY, Counters)
        for key in records:
            if table_of(key) == INODE:
                _read_one(reads, key)


def _read_one(reads: Together, key: bytes) -> None:
    try:
        reads.get(key, Inode)
    except FsError:
        assert table_of(key) == INODE, "damaged: this is what the repair is for"


def _write(overlay: Overlay, records: dict[bytes, Record | None]) -> None:
    for key, record in records.items():
        if record is None:
            overlay.delete(key)
        else:
            overlay.put(key, record)
