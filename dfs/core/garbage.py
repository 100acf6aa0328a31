"""The life of a block's reference count (I6).

    counted ──last reference dropped──▶ garbage ──condemn──▶ condemned ──forget──▶ (no record)
       ▲────────add_reference─────────────┘
    (no record) ──add_reference──▶ counted          (no record) ──condemn──▶ condemned

| state | BlockRef | Garbage record |
|---|---|---|
| counted | count ≥ 1 | none |
| garbage | count 0 | present |
| condemned | count 0, is_condemned | present |

A condemned block takes no reference ever again: its copies may be going away at this moment. Only
when they are gone is it forgotten, and then the same content may come back as a new block.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import msgspec

from dfs.core.namespace.keys import block_key, garbage_key
from dfs.core.namespace.records import BlockRef, Garbage
from dfs.errors import FsError
from dfs.limits import BLOCK_BYTES_MAX, BLOCK_ID_BYTES

if TYPE_CHECKING:
    from dfs.core.namespace.view import Overlay
    from dfs.types import BlockId


def add_reference(
    overlay: Overlay, block_id: BlockId, block_length: int, *, count: int = 1
) -> None:
    """Counts `count` more extents that name the block, whose plain bytes are `block_length`.

    Raises FsError: EAGAIN for a condemned block (upload it again once it is forgotten), EINVAL when
    the block is known with another length. Keeps I6.
    """
    assert len(block_id) == BLOCK_ID_BYTES
    assert 0 < block_length <= BLOCK_BYTES_MAX
    assert count > 0
    key = block_key(block_id)
    ref = overlay.get(key, BlockRef) or BlockRef(count=0, length=block_length)
    if ref.is_condemned:
        raise FsError(errno.EAGAIN, f"block {block_id.hex()} is being deleted")
    if ref.length != block_length:
        raise FsError(errno.EINVAL, f"block {block_id.hex()} has {ref.length} bytes")
    if ref.count == 0:
        overlay.delete(garbage_key(block_id))
    overlay.put(key, msgspec.structs.replace(ref, count=ref.count + count))


def drop_reference(overlay: Overlay, block_id: BlockId, *, count: int = 1) -> None:
    """Counts `count` extents less; at zero the block enters the garbage queue. Keeps I6.

    Raises FsError(EIO) when fewer references are counted than extents existed: the records are
    damaged.
    """
    assert len(block_id) == BLOCK_ID_BYTES
    assert count > 0
    key = block_key(block_id)
    ref = overlay.get(key, BlockRef)
    if ref is None or ref.count < count:
        raise FsError(errno.EIO, f"the count of block {block_id.hex()} is too low: run dfs fsck")
    assert not ref.is_condemned
    left = msgspec.structs.replace(ref, count=ref.count - count)
    overlay.put(key, left)
    if left.count == 0:
        overlay.put(garbage_key(block_id), Garbage())


def condemn(overlay: Overlay, block_id: BlockId, block_length: int | None = None) -> bool:
    """Whether the block is condemned now: from the commit of this on, no extent can name it again.

    False, and nothing changed, if extents name it. `block_length` is needed for a block without a
    record (an upload that no op ever named). The copies may be deleted only once this is durable
    (I6).
    """
    assert len(block_id) == BLOCK_ID_BYTES
    key = block_key(block_id)
    ref = overlay.get(key, BlockRef)
    if ref is None:
        assert block_length is not None
        ref = BlockRef(count=0, length=block_length)
    if ref.count:
        return False
    overlay.put(key, msgspec.structs.replace(ref, is_condemned=True))
    overlay.put(garbage_key(block_id), Garbage())
    return True


def forget(overlay: Overlay, block_id: BlockId) -> None:
    """Drops the records of a condemned block whose copies are gone from every chunk server (I6)."""
    assert len(block_id) == BLOCK_ID_BYTES
    key = block_key(block_id)
    ref = overlay.get(key, BlockRef)
    assert ref is not None
    assert ref.is_condemned
    assert ref.count == 0
    overlay.delete(key)
    overlay.delete(garbage_key(block_id))
