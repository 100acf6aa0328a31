"""Which record a key holds, so that rows of the engine can be decoded without knowing who asked."""

from __future__ import annotations

from dfs.core.namespace import keys
from dfs.core.namespace.records import (
    BlockRef,
    Config,
    Counters,
    Dentry,
    Extent,
    Fence,
    Garbage,
    Inode,
    MapRecord,
    Orphan,
    Record,
    ServerRecord,
    SessionRecord,
    Xattr,
    decode_record,
)

_BY_TAG: dict[bytes, type[Record]] = {
    keys.INODE: Inode,
    keys.DENTRY: Dentry,
    keys.XATTR: Xattr,
    keys.EXTENT: Extent,
    keys.BLOCK: BlockRef,
    keys.GARBAGE: Garbage,
    keys.ORPHAN: Orphan,
    keys.SESSION: SessionRecord,
}
_BY_KEY: dict[bytes, type[Record]] = {
    keys.FENCE_KEY: Fence,
    keys.VOLUME_KEY: Config,
    keys.COUNTERS_KEY: Counters,
    keys.MAP_KEY: MapRecord,
}


def record_type_of(key: bytes) -> type[Record]:
    """The type of the record under a key. Raises ValueError for a key of no table."""
    if len(key) <= 3:
        raise ValueError(f"{key.hex()} is no key")
    record_type = _BY_TAG.get(key[2:3]) or _BY_KEY.get(key)
    if record_type is not None:
        return record_type
    start, end = keys.server_range()
    if start <= key < end:
        return ServerRecord
    raise ValueError(f"{key.hex()} is no key")


def decode_row(key: bytes, value: bytes) -> Record:
    """The record of one row of the engine. Raises FormatTooNew; damaged rows raise what
    `decode_record` does."""
    return decode_record(record_type_of(key), value)
