"""The volume's own records: made by its first server in one commit, read by every later one."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec
import trio

from dfs.core.namespace import keys
from dfs.core.namespace.entries import root_records
from dfs.core.namespace.records import (
    Config,
    Counters,
    Fence,
    MapRecord,
    Record,
    ServerRecord,
    SessionRecord,
    decode_record,
    encode_record,
)
from dfs.engine.api import Conflict, EngineDamaged, Retry, Unknown
from dfs.limits import SCAN_RECORDS_MAX
from dfs.meta.shards import RETRY_PAUSE_S
from dfs.types import ClusterId, InodeId, MapEpoch, SessionId, VolumeSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dfs.config import MetaConfig
    from dfs.engine.api import Engine, Row
    from dfs.environment import Environment

log = logging.getLogger(__name__)

R = TypeVar("R", bound=Record)

FIRST_INO = InodeId(2)
"""1 is the root."""


class Volume(NamedTuple):
    """What a server must know before it serves."""

    config: Config
    map_epoch: MapEpoch
    servers: list[ServerRecord]
    sessions: list[SessionRecord]
    orphans: list[InodeId]

    @property
    def settings(self) -> VolumeSettings:
        return VolumeSettings(self.config.cluster_id, self.config.block_bytes)


async def make_volume(config: MetaConfig, environment: Environment, engine: Engine) -> None:
    """Make the volume if there is none. An existing one keeps the settings that it has.

    Raises NoSpace; FormatTooNew if a newer dfs made it, before anything is touched.
    """
    key = keys.VOLUME_KEY
    while True:
        value = (await environment.run_blocking(engine.get, [key]))[0]
        if value is not None:
            assert _decoded((key, value), Config).block_bytes > 0
            return
        puts = {k: encode_record(r) for k, r in _first_records(config, environment).items()}
        try:
            await environment.run_blocking(engine.commit, {key: None}, puts)
        except (Conflict, Retry, Unknown) as error:
            # Whoever made it, this server or another: what is there now counts.
            log.info("making the volume: %s", error)
            await trio.sleep(RETRY_PAUSE_S)


def _first_records(config: MetaConfig, environment: Environment) -> dict[bytes, Record]:
    cluster_id = ClusterId(f"{environment.random.getrandbits(128):032x}")
    min_copies = config.min_copies or max(1, config.copies - 1)
    records: dict[bytes, Record] = {
        keys.VOLUME_KEY: Config(cluster_id, config.block_bytes, config.copies, min_copies),
        keys.COUNTERS_KEY: Counters(FIRST_INO, SessionId(1), inode_count=1, stored_bytes=0),
        keys.FENCE_KEY: Fence(shard_epoch=0, batch_number=0),
        keys.MAP_KEY: MapRecord(MapEpoch(0)),
    }
    return records | root_records(environment.now_ns())


async def load_volume(environment: Environment, engine: Engine) -> Volume:
    """Read the volume's records. Call it as the shard's owner, so that they stay as they are.

    Raises FormatTooNew if a newer dfs wrote them, EngineDamaged if they make no sense.
    """
    return await environment.run_blocking(_load, engine)


def _load(engine: Engine) -> Volume:
    servers = _rows(engine, *keys.server_range())
    sessions = _rows(engine, *keys.table_range(keys.SESSION))
    orphans = _rows(engine, *keys.table_range(keys.ORPHAN))
    return Volume(
        config=_read(engine, keys.VOLUME_KEY, Config),
        map_epoch=_read(engine, keys.MAP_KEY, MapRecord).map_epoch,
        servers=[_decoded(row, ServerRecord) for row in servers],
        sessions=[_decoded(row, SessionRecord) for row in sessions],
        orphans=[keys.ino_of(key) for key, _ in orphans],
    )


def _read(engine: Engine, key: bytes, record_type: type[R]) -> R:
    [value] = engine.get([key])
    if value is None:
        raise EngineDamaged(f"the volume's {record_type.__name__} record is missing")
    return _decoded((key, value), record_type)


def _rows(engine: Engine, start: bytes, end: bytes) -> Iterator[Row]:
    while rows := engine.scan(start, end, SCAN_RECORDS_MAX):
        yield from rows
        start = rows[-1][0] + b"\0"


def _decoded(row: Row, record_type: type[R]) -> R:
    try:
        return decode_record(record_type, row[1])
    except (msgspec.MsgspecError, IndexError) as error:
        name = record_type.__name__
        raise EngineDamaged(f"the {name} record at {row[0].hex()} is damaged: {error}") from error
