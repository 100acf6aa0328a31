"""The content of files: which piece of which block stands where.

A change is planned on plain lists, then written as the difference: `old` extents that it touches,
`new` ones that replace them. Reference counts follow from that difference alone, so they stay equal
to the number of extents that name a block (I6).

Work is bounded: a plan that would change more than OP_RECORDS_MAX records becomes `Divide`.
"""

from __future__ import annotations

import errno
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec

from dfs.core.garbage import add_reference, drop_reference
from dfs.core.namespace import access, pieces
from dfs.core.namespace.inodes import damaged, get_inode, put_inode
from dfs.core.namespace.keys import block_key, extent_key, extent_range
from dfs.core.namespace.ops import CommitData, Divide, OpResult, TrimTail
from dfs.core.namespace.records import BlockRef, Extent
from dfs.core.namespace.view import ScanRange, Together
from dfs.core.namespace.xattrs import drop_capability
from dfs.errors import FsError
from dfs.limits import OP_RECORDS_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dfs.core.namespace.ops import SetAttr
    from dfs.core.namespace.records import Inode
    from dfs.core.namespace.view import Overlay, View
    from dfs.types import BlockId, InodeId

REMOVED_PER_OP_MAX = OP_RECORDS_MAX // 4
"""Extents that one op may remove: each costs its own record, its block's count and its garbage
marker."""


def extents_touching(view: View, ino: InodeId, start: int, end: int, limit: int) -> list[Extent]:
    """The first `limit` extents that overlap [start, end), by offset; may be empty. Raises
    Missing."""
    with Together(view) as reads:
        extents = _touching(reads, ino, start, end, limit)
    return extents


def _touching(reads: Together, ino: InodeId, start: int, end: int, limit: int) -> list[Extent]:
    assert 0 <= start <= end
    assert limit > 0
    before = reads.scan(ScanRange(*extent_range(ino, 0, start), 1, is_reverse=True), Extent)
    inside = reads.scan(ScanRange(*extent_range(ino, start, end), limit), Extent)
    extents = [extent for _, extent in before if extent.end > start < end]
    extents.extend(extent for _, extent in inside)
    return extents[:limit]


def commit_data(overlay: Overlay, op: CommitData) -> OpResult:
    """The inode after CommitData; works on orphans too.

    Raises FsError: ESTALE, EISDIR, EINVAL (pieces that make no sense), EFBIG, EAGAIN (a block is
    condemned), EBUSY (not the expected version); Divide when too many extents go at once. Keeps I6.
    """
    inode = get_inode(overlay, op.ino)
    if inode.is_directory:
        raise FsError(errno.EISDIR)
    if not inode.is_file:
        raise FsError(errno.EINVAL, "only files have content")
    if op.expected_version not in (None, inode.data_version):
        raise FsError(errno.EBUSY, "its end is somewhere else by now")
    pieces.check(op.pieces)
    old, new = _plan(overlay, op, inode)
    if not op.keeps_attributes:
        mode = access.mode_after_write(inode, op.credentials)
        inode = drop_capability(overlay, msgspec.structs.replace(inode, mode=mode))
    end = op.pieces[-1].offset + op.pieces[-1].length
    inode = msgspec.structs.replace(inode, size=max(inode.size, end))
    lengths = {piece.block_id: piece.block_length for piece in op.pieces if piece.block_id}
    _check_lengths(overlay, lengths)
    inode = _replace(overlay, inode, old, new, lengths)
    return _content_changed(overlay, inode, None if op.keeps_attributes else op.now_ns)


def _check_lengths(view: View, lengths: dict[BlockId, int]) -> None:
    """A block whose count does not change is not looked at again, so its length is compared
    here."""
    for block_id, length in lengths.items():
        ref = view.get(block_key(block_id), BlockRef)
        if ref is not None and ref.length != length:
            raise FsError(errno.EINVAL, f"block {block_id.hex()} has {ref.length} bytes")


def _plan(view: View, op: CommitData, inode: Inode) -> tuple[list[Extent], list[Extent]]:
    """(old extents, what replaces them). Raises Divide when that would change too many records.

    A piece costs up to four records (its extent, a remainder behind it, its block's count and
    garbage marker), a replaced extent three. What an earlier part of a divided op has put in place
    costs nothing, so applying the op again gets further every time.
    """
    replaced_max = (OP_RECORDS_MAX - 2 - 4 * len(op.pieces)) // 3
    assert replaced_max > 4
    # Nothing is looked for in a new file: without stored bytes there are no extents.
    old = _overlapped(view, op, replaced_max + 4 if inode.stored_bytes else 0)
    new = pieces.replace_ranges(old, op.pieces)
    unchanged = set(new)
    replaced = [extent for extent in old if extent not in unchanged]
    if len(replaced) > replaced_max:
        cut = replaced[replaced_max - 1].offset
        raise Divide(msgspec.structs.replace(op, pieces=pieces.below(op.pieces, cut)))
    return old, new


def _overlapped(view: View, op: CommitData, limit: int) -> list[Extent]:
    """What the pieces overlap or touch (so that neighbours can be merged): per piece the first
    `limit`."""
    found: dict[int, Extent] = {}
    with Together(view) as reads:
        for piece in op.pieces:
            start, end = max(0, piece.offset - 1), piece.offset + piece.length + 1
            for extent in _touching(reads, op.ino, start, end, limit) if limit else ():
                found[extent.offset] = extent
            if piece.block_id:
                reads.get(block_key(piece.block_id), BlockRef)
    old = [found[offset] for offset in sorted(found)]
    if any(left.end > right.offset for left, right in pairwise(old)):
        raise damaged(f"extents of inode {op.ino} overlap")
    return old


def resize(overlay: Overlay, inode: Inode, size: int, op: SetAttr) -> Inode:
    """The inode with its new size, not yet written; what lay beyond is gone, what is gained is a
    hole.

    Raises Divide(TrimTail) when too many extents lie beyond. Keeps I6.
    """
    assert inode.is_file
    assert size >= 0
    old: list[Extent] = []
    if size < inode.size:
        old = extents_touching(overlay, inode.ino, size, inode.size, REMOVED_PER_OP_MAX + 1)
        if len(old) > REMOVED_PER_OP_MAX:
            first = TrimTail(credentials=op.credentials, now_ns=op.now_ns, ino=inode.ino, size=size)
            raise Divide(first)
    inode = _replace(overlay, inode, old, pieces.cut_at(old, size), {})
    return msgspec.structs.replace(inode, size=size, data_version=inode.data_version + 1)


def trim_tail(overlay: Overlay, op: TrimTail) -> OpResult:
    """The inode after TrimTail: at most REMOVED_PER_OP_MAX extents less, its size where the last
    one began.

    Raises FsError(ESTALE), Missing. Nothing to cut leaves it as it is. Keeps I6.
    """
    inode = get_inode(overlay, op.ino)
    if not inode.is_file or op.size >= inode.size:
        return OpResult(inode)
    bounds = extent_range(inode.ino, op.size, inode.size)
    page = ScanRange(*bounds, REMOVED_PER_OP_MAX, is_reverse=True)
    old = [extent for _, extent in reversed(overlay.scan(page, Extent))]
    size = op.size
    if len(old) == REMOVED_PER_OP_MAX:
        size = old[0].offset
    else:
        old = extents_touching(overlay, inode.ino, op.size, inode.size, REMOVED_PER_OP_MAX)
    assert op.size <= size < inode.size
    inode = _replace(overlay, inode, old, pieces.cut_at(old, size), {})
    inode = msgspec.structs.replace(inode, size=size)
    return _content_changed(overlay, inode, op.now_ns)


def remove_extents(overlay: Overlay, inode: Inode) -> tuple[Inode, bool]:
    """A step of taking a file apart: (the inode, not yet written, whether all extents are gone).
    Keeps I6."""
    assert inode.nlink == 0
    page = ScanRange(*extent_range(inode.ino), REMOVED_PER_OP_MAX)
    old = [extent for _, extent in overlay.scan(page, Extent)]
    inode = _replace(overlay, inode, old, [], {})
    return inode, len(old) < REMOVED_PER_OP_MAX


def _content_changed(overlay: Overlay, inode: Inode, now_ns: int | None) -> OpResult:
    if now_ns is not None:
        inode = msgspec.structs.replace(inode, mtime_ns=now_ns, ctime_ns=now_ns)
    inode = msgspec.structs.replace(inode, data_version=inode.data_version + 1)
    put_inode(overlay, inode)
    return OpResult(inode)


def _replace(
    overlay: Overlay,
    inode: Inode,
    old: list[Extent],
    new: list[Extent],
    lengths: dict[BlockId, int],
) -> Inode:
    """Writes `new` for `old`, counts references, and gives the inode with its stored_bytes, not yet
    written.

    `lengths`: plain bytes of the blocks that may be named for the first time.
    """
    added, dropped = _count_references(new), _count_references(old)
    if added or dropped:
        _refer(overlay, added, dropped, lengths)
    kept = set(new)
    for extent in old:
        if extent not in kept:
            overlay.delete(extent_key(inode.ino, extent.offset))
    known = set(old)
    for extent in new:
        if extent not in known:
            overlay.put(extent_key(inode.ino, extent.offset), extent)
    growth = _total(new) - _total(old)
    if inode.stored_bytes + growth < 0:
        raise damaged(f"inode {inode.ino} counts {inode.stored_bytes} stored bytes")
    return msgspec.structs.replace(inode, stored_bytes=inode.stored_bytes + growth)


def _refer(
    overlay: Overlay,
    added: Counter[BlockId],
    dropped: Counter[BlockId],
    lengths: dict[BlockId, int],
) -> None:
    with Together(overlay) as reads:
        for block_id in added | dropped:
            reads.get(block_key(block_id), BlockRef)
    # Additions first: a block that moves within the file must not pass through the garbage queue.
    for block_id, count in (added - dropped).items():
        add_reference(overlay, block_id, _block_length(overlay, block_id, lengths), count=count)
    for block_id, count in (dropped - added).items():
        drop_reference(overlay, block_id, count=count)


def _block_length(overlay: Overlay, block_id: BlockId, lengths: dict[BlockId, int]) -> int:
    """As the op says, or for one more extent of a block that was split, as the record says."""
    if block_id in lengths:
        return lengths[block_id]
    ref = overlay.get(block_key(block_id), BlockRef)
    if ref is None:
        raise damaged(f"block {block_id.hex()} has no record")
    return ref.length


def _count_references(extents: Iterable[Extent]) -> Counter[BlockId]:
    return Counter(extent.block_id for extent in extents if extent.block_id)


def _total(extents: Iterable[Extent]) -> int:
    return sum(extent.length for extent in extents)
