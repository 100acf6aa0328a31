"""Keys of the engine: the only place that knows byte order.

A key is the shard (2 bytes), a table tag (1 byte) and big-endian fields, so that a directory, a
file or a queue is one range. Tags never change meaning; `docs/disk_format.md` lists them and a
test pins them.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from dfs.limits import (
    BLOCK_ID_BYTES,
    INODE_COUNTER_BITS,
    NAME_BYTES_MAX,
    SHARD_BITS,
    XATTR_NAME_BYTES_MAX,
)
from dfs.types import BlockId, InodeId, ServerId, SessionId

INODE = b"I"
DENTRY = b"D"
XATTR = b"X"
EXTENT = b"E"
BLOCK = b"B"
GARBAGE = b"Z"
ORPHAN = b"O"
SESSION = b"S"
CONFIG = b"C"
TABLES = (INODE, DENTRY, XATTR, EXTENT, BLOCK, GARBAGE, ORPHAN, SESSION, CONFIG)

_PREFIX_BYTES = 3
_SHARD_0 = b"\0\0"
# One shard exists so far: blocks, sessions and configuration live in it, inodes name theirs.

# Every op makes and reads dozens of keys.
_OF_INODE: Final = Struct(">HcQ")
_INO: Final = Struct(">Q")
_ALL_TABLES: Final = frozenset(TABLES)
_TABLES_OF_INODES: Final = frozenset((INODE, DENTRY, XATTR, EXTENT, ORPHAN))
_INO_END: Final = 1 << (SHARD_BITS + INODE_COUNTER_BITS)


def shard_of(ino: InodeId) -> int:
    """The shard that owns an inode, 0 … 2**16 - 1."""
    assert 0 < ino < _INO_END
    return ino >> INODE_COUNTER_BITS


def _of_inode(tag: bytes, ino: InodeId) -> bytes:
    assert 0 < ino < _INO_END
    return _OF_INODE.pack(ino >> INODE_COUNTER_BITS, tag, ino)


def inode_key(ino: InodeId) -> bytes:
    return _of_inode(INODE, ino)


def dentry_key(parent: InodeId, name: bytes) -> bytes:
    assert 0 < len(name) <= NAME_BYTES_MAX
    return _of_inode(DENTRY, parent) + name


def xattr_key(ino: InodeId, name: bytes) -> bytes:
    assert 0 < len(name) <= XATTR_NAME_BYTES_MAX
    return _of_inode(XATTR, ino) + name


def extent_key(ino: InodeId, offset: int) -> bytes:
    assert offset >= 0
    return _of_inode(EXTENT, ino) + offset.to_bytes(8, "big")


def offset_of(key: bytes) -> int:
    """Where the extent of this key begins."""
    assert table_of(key) == EXTENT
    return int.from_bytes(key[-8:], "big")


def block_key(block_id: BlockId) -> bytes:
    assert len(block_id) == BLOCK_ID_BYTES
    return _SHARD_0 + BLOCK + block_id


def garbage_key(block_id: BlockId) -> bytes:
    assert len(block_id) == BLOCK_ID_BYTES
    return _SHARD_0 + GARBAGE + block_id


def orphan_key(ino: InodeId) -> bytes:
    return _of_inode(ORPHAN, ino)


def session_key(session_id: SessionId) -> bytes:
    assert session_id > 0
    return _SHARD_0 + SESSION + session_id.to_bytes(8, "big")


def config_key(name: str) -> bytes:
    assert name
    return _SHARD_0 + CONFIG + name.encode()


FENCE_KEY = config_key("fence")
VOLUME_KEY = config_key("volume")
COUNTERS_KEY = config_key("counters")
MAP_KEY = config_key("map")
_SERVER_PREFIX = config_key("server/")


def server_key(server_id: ServerId) -> bytes:
    return _SERVER_PREFIX + server_id.encode()


def server_range() -> tuple[bytes, bytes]:
    """The half-open range of all chunk-server records."""
    return _SERVER_PREFIX, after_prefix(_SERVER_PREFIX)


def table_range(tag: bytes) -> tuple[bytes, bytes]:
    """The half-open range of one table (shard 0)."""
    assert tag in TABLES
    return _SHARD_0 + tag, after_prefix(_SHARD_0 + tag)


def dentry_range(parent: InodeId, after: bytes = b"") -> tuple[bytes, bytes]:
    """The half-open range of a directory's entries whose names sort after `after`."""
    prefix = _of_inode(DENTRY, parent)
    start = prefix + after + b"\0" if after else prefix
    return start, after_prefix(prefix)


def xattr_range(ino: InodeId) -> tuple[bytes, bytes]:
    """The half-open range of an inode's extended attributes."""
    prefix = _of_inode(XATTR, ino)
    return prefix, after_prefix(prefix)


def extent_range(ino: InodeId, start: int = 0, end: int = (1 << 64) - 1) -> tuple[bytes, bytes]:
    """The half-open range of extents that *start* in [start, end)."""
    prefix = _of_inode(EXTENT, ino)
    return prefix + start.to_bytes(8, "big"), prefix + end.to_bytes(8, "big")


def after_prefix(prefix: bytes) -> bytes:
    """The smallest key greater than every key that begins with `prefix`."""
    trimmed = prefix.rstrip(b"\xff")
    assert trimmed
    return trimmed[:-1] + bytes((trimmed[-1] + 1,))


def table_of(key: bytes) -> bytes:
    """The table tag of a key."""
    assert len(key) > _PREFIX_BYTES
    tag = key[2:_PREFIX_BYTES]
    assert tag in _ALL_TABLES
    return tag


def ino_of(key: bytes) -> InodeId:
    """The inode that an I, D, X, E or O key starts with."""
    assert key[2:_PREFIX_BYTES] in _TABLES_OF_INODES
    ino: InodeId = _INO.unpack_from(key, _PREFIX_BYTES)[0]
    return ino


def name_of(key: bytes) -> bytes:
    """The name in a D or X key."""
    assert table_of(key) in (DENTRY, XATTR)
    return key[_PREFIX_BYTES + 8 :]


def block_id_of(key: bytes) -> BlockId:
    """The block in a B or Z key."""
    assert table_of(key) in (BLOCK, GARBAGE)
    return BlockId(key[_PREFIX_BYTES:])
