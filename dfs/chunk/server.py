"""A chunk server: wiring and lifetime. The only file here that starts tasks."""

from __future__ import annotations

import logging
import os
import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import trio

from dfs.chunk.compactor import Compactor
from dfs.chunk.disk import SystemDisk
from dfs.chunk.handlers import ChunkHandlers
from dfs.chunk.identity import Identity
from dfs.chunk.reporter import Reporter
from dfs.chunk.segment_log import disk_failure
from dfs.chunk.store_segments import SegmentStore
from dfs.core.messages import ChunkRequest
from dfs.engine.api import EngineDamaged
from dfs.engine.lmdb_engine import LmdbEngine
from dfs.errors import DfsError, UserError
from dfs.rpc.server import serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dfs.chunk.disk import Disk
    from dfs.config import ChunkConfig
    from dfs.engine.api import Engine
    from dfs.environment import Environment

INDEX_DIRECTORY: Final = "index"
OPENING_NAME: Final = "index.opening"
_OPENINGS_MAX: Final = 2
"""Starts that died while they read the index, after which it is thrown away."""

logger = logging.getLogger(__name__)


async def run_chunk_server(
    config: ChunkConfig,
    environment: Environment,
    *,
    disk: Disk | None = None,
    index_engine: Engine | None = None,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve blocks from one data directory until cancelled; starts with the address listened on.

    Without `disk` and `index_engine` it uses the directory that the config names; those given are
    closed too. Raises UserError (directory in use, address taken), WrongCluster, FormatTooNew,
    DfsError (the disk fails): one clear line each.
    """
    problem: DfsError | None = None
    try:
        async with _opened_disk(config, environment, disk) as used_disk:
            identity = await environment.run_blocking(
                _open_identity, used_disk, environment, config.data
            )
            async with _opened_store(
                config, environment, used_disk, index_engine, identity
            ) as store:
                await _run(config, environment, used_disk, identity, store, task_status)
    except* DfsError as group:
        problem = _first_error(group)
    if problem is not None:
        raise problem


async def _run(
    config: ChunkConfig,
    environment: Environment,
    disk: Disk,
    identity: Identity,
    store: SegmentStore,
    task_status: trio.TaskStatus[str],
) -> None:
    handlers = ChunkHandlers(store, identity)
    compactor = Compactor(
        environment, disk, identity.server_id, store, segment_bytes=config.segment_bytes
    )
    try:
        listener = await environment.network.listen(config.listen)
    except OSError as error:
        raise UserError(error.strerror or str(error)) from error
    reporter = Reporter(
        environment,
        store,
        identity,
        config.meta,
        address=config.advertise or listener.address,
        zone=config.zone or identity.server_id,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        nursery.start_soon(compactor.run)
        address = await nursery.start(serve, environment, listener, ChunkRequest, handlers.handle)
        nursery.start_soon(reporter.run)
        task_status.started(address)


@asynccontextmanager
async def _opened_disk(
    config: ChunkConfig, environment: Environment, disk: Disk | None
) -> AsyncIterator[Disk]:
    if disk is None:
        try:
            disk = await environment.run_blocking(SystemDisk, config.data)
        except OSError as error:
            raise UserError(f"{config.data}: {error.strerror or error}") from error
    try:
        yield disk
    finally:
        with trio.CancelScope(shield=True):
            await environment.run_blocking(disk.close)


def _open_identity(disk: Disk, environment: Environment, place: str) -> Identity:
    try:
        return Identity.open(disk, environment.random, place)
    except OSError as error:
        raise disk_failure(error, f"{place} cannot be used") from error


@asynccontextmanager
async def _opened_store(
    config: ChunkConfig,
    environment: Environment,
    disk: Disk,
    engine: Engine | None,
    identity: Identity,
) -> AsyncIterator[SegmentStore]:
    """The recovered store, with the given engine or the one in the data directory."""
    if engine is not None:
        try:
            yield await SegmentStore.open(environment, disk, engine, identity, config)
        finally:
            with trio.CancelScope(shield=True):
                await environment.run_blocking(engine.close)
        return
    opener = _IndexOpener(config, disk)
    engine = await environment.run_blocking(opener.open)
    try:
        try:
            store = await SegmentStore.open(environment, disk, engine, identity, config)
        except EngineDamaged as error:
            engine = await environment.run_blocking(opener.open_anew, engine, str(error))
            store = await SegmentStore.open(environment, disk, engine, identity, config)
        await environment.run_blocking(opener.note_success)
        yield store
    except* EngineDamaged:
        await environment.run_blocking(opener.note_damage)
        raise
    finally:
        with trio.CancelScope(shield=True):
            await environment.run_blocking(engine.close)


class _IndexOpener:
    """Opens the index's engine in the data directory. It is only a shortcut: whatever is wrong with
    it, it is thrown away and made again from the segments. Blocking.

    A damaged LMDB file can end the whole process instead of raising an error, so each start leaves
    a mark while it reads the index; a few marks in a row are damage too.
    """

    def __init__(self, config: ChunkConfig, disk: Disk) -> None:
        self._path = os.path.join(config.data, INDEX_DIRECTORY)
        self._disk = disk

    def open(self) -> Engine:
        marks = self._mark_count()
        if marks >= _OPENINGS_MAX:
            return self.open_anew(None, "it was of no use to the last start")
        self._disk.write_at(OPENING_NAME, marks, [b"!"])
        try:
            return self._engine()
        except EngineDamaged as error:
            return self.open_anew(None, str(error))

    def open_anew(self, engine: Engine | None, reason: str) -> Engine:
        """An empty index in the place of one that is of no use."""
        logger.warning("index: %s; making a new one", reason)
        if engine is not None:
            engine.close()
        shutil.rmtree(self._path, ignore_errors=True)
        return self._engine()

    def note_success(self) -> None:
        if self._mark_count():
            self._disk.remove(OPENING_NAME)

    def note_damage(self) -> None:
        """The next start makes a new index."""
        logger.error("index: it cannot be used any more, the next start makes a new one")
        self._disk.write_at(OPENING_NAME, 0, [b"!" * _OPENINGS_MAX])

    def _mark_count(self) -> int:
        try:
            return self._disk.size(OPENING_NAME)
        except FileNotFoundError:
            return 0

    def _engine(self) -> Engine:
        try:
            return LmdbEngine(self._path)
        except OSError as error:
            raise disk_failure(error, f"{self._path} cannot be opened") from error


def _first_error(group: BaseExceptionGroup[DfsError]) -> DfsError:
    """The error that ended the server: others are its echoes."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, DfsError)
    return error
