"""Arithmetic of ranges: pieces laid over extents. Knows lists only, no views and no counts."""

from __future__ import annotations

import errno
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec

from dfs.core.namespace.records import Extent
from dfs.errors import FsError
from dfs.limits import (
    BLOCK_BYTES_MAX,
    BLOCK_ID_BYTES,
    FILE_BYTES_MAX,
    INLINE_BYTES_MAX,
    PIECES_PER_COMMIT_MAX,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dfs.core.namespace.ops import Piece


def check(pieces: Sequence[Piece]) -> None:
    """Raises FsError: EINVAL unless they are sorted, apart, and each of one kind; EFBIG past
    FILE_BYTES_MAX."""
    if not 0 < len(pieces) <= PIECES_PER_COMMIT_MAX:
        raise FsError(errno.EINVAL, f"1 … {PIECES_PER_COMMIT_MAX} pieces, not {len(pieces)}")
    end = 0
    lengths: dict[bytes, int] = {}
    for piece in pieces:
        if piece.offset < end or piece.length <= 0:
            raise FsError(errno.EINVAL, "pieces overlap, or are empty or out of order")
        end = piece.offset + piece.length
        if end > FILE_BYTES_MAX:
            raise FsError(errno.EFBIG)
        if piece.block_id:
            _check_block(piece)
            if lengths.setdefault(piece.block_id, piece.block_length) != piece.block_length:
                raise FsError(errno.EINVAL, "one block, two lengths")
        else:
            _check_unstored(piece)


def _check_block(piece: Piece) -> None:
    if len(piece.block_id) != BLOCK_ID_BYTES or piece.inline:
        raise FsError(errno.EINVAL, "a piece is of a block, or inline, or a hole")
    if not 0 < piece.block_length <= BLOCK_BYTES_MAX:
        raise FsError(errno.EINVAL, f"a block has 1 … {BLOCK_BYTES_MAX} bytes")
    if piece.block_offset < 0 or piece.block_offset + piece.length > piece.block_length:
        raise FsError(errno.EINVAL, "a piece lies within its block")


def _check_unstored(piece: Piece) -> None:
    if piece.block_offset or piece.block_length:
        raise FsError(errno.EINVAL, "a place in a block, but no block")
    if not piece.inline:
        return
    if len(piece.inline) != piece.length:
        raise FsError(errno.EINVAL, "an inline piece has its bytes")
    if piece.offset + piece.length > INLINE_BYTES_MAX:
        raise FsError(errno.EINVAL, f"inline bytes live in the first {INLINE_BYTES_MAX} only")


def below(pieces: Iterable[Piece], cut: int) -> tuple[Piece, ...]:
    """What of the pieces lies below the offset `cut`. Not empty: a piece begins below."""
    kept = tuple(
        _shortened(piece, min(piece.length, cut - piece.offset))
        for piece in pieces
        if piece.offset < cut
    )
    assert kept
    return kept


def _shortened(piece: Piece, length: int) -> Piece:
    assert 0 < length <= piece.length
    return msgspec.structs.replace(piece, length=length, inline=piece.inline[:length])


def part(extent: Extent, start: int, end: int) -> Extent:
    """The extent of the file range [start, end) alone, which lies within it."""
    assert extent.offset <= start < end <= extent.end
    skipped = start - extent.offset
    if extent.is_inline:
        return Extent(start, end - start, inline=extent.inline[skipped : skipped + end - start])
    return Extent(start, end - start, extent.block_id, extent.block_offset + skipped)


def cut_at(extents: Iterable[Extent], size: int) -> list[Extent]:
    """What of the extents lies below the offset `size`."""
    assert size >= 0
    return [part(e, e.offset, min(e.end, size)) for e in extents if e.offset < size]


def replace_ranges(old: Sequence[Extent], pieces: Sequence[Piece]) -> list[Extent]:
    """The extents once the pieces have replaced their ranges, sorted; neighbours that fit are one.

    `old` is sorted and holds every extent that a piece overlaps.
    """
    new = _without(old, pieces)
    for piece in pieces:
        if piece.block_id:
            new.append(Extent(piece.offset, piece.length, piece.block_id, piece.block_offset))
        elif piece.inline:
            new.append(Extent(piece.offset, piece.length, inline=piece.inline))
    new.sort(key=lambda extent: extent.offset)
    assert all(left.end <= right.offset for left, right in pairwise(new))
    return _merged(new)


def _without(old: Iterable[Extent], pieces: Sequence[Piece]) -> list[Extent]:
    """What is left of the extents outside the pieces' ranges."""
    left: list[Extent] = []
    for extent in old:
        start = extent.offset
        for piece in pieces:
            if piece.offset >= extent.end:
                break
            if start < piece.offset:
                left.append(part(extent, start, piece.offset))
            start = max(start, piece.offset + piece.length)
        if start < extent.end:
            left.append(part(extent, start, extent.end))
    return left


def _merged(extents: Iterable[Extent]) -> list[Extent]:
    """The same content in fewer extents, so that a file written in tiny steps stays few records."""
    merged: list[Extent] = []
    for extent in extents:
        if merged and _continues(merged[-1], extent):
            extent = _joined(merged.pop(), extent)
        merged.append(extent)
    return merged


def _continues(left: Extent, right: Extent) -> bool:
    if left.end != right.offset or left.block_id != right.block_id:
        return False
    return left.is_inline or left.block_offset + left.length == right.block_offset


def _joined(left: Extent, right: Extent) -> Extent:
    assert left.end == right.offset
    return msgspec.structs.replace(
        left, length=left.length + right.length, inline=left.inline + right.inline
    )
