"""Rules of what files hold: extents, extended attributes, blocks, orphans, totals. One `check_…`
each.

`invariants.py` has the rules of names, and runs them all.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from msgspec.structs import replace

from dfs.core.namespace import keys
from dfs.core.namespace.census import BlockUse, Census, Content, Finding, of_inode
from dfs.core.namespace.records import BlockRef, Garbage, Inode, Orphan
from dfs.limits import INLINE_BYTES_MAX
from dfs.types import InodeId

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def check_extents_apart(census: Census) -> Iterator[Finding]:
    """Extents of a file do not overlap."""
    yield from census.overlapping


def check_inline_at_head(census: Census) -> Iterator[Finding]:
    """Inline bytes live only in a file's first INLINE_BYTES_MAX; records beyond cannot even be
    read."""
    for finding in census.unreadable:
        is_extent = len(finding.key) == 19 and finding.key[2:3] == keys.EXTENT
        offset = int.from_bytes(finding.key[11:], "big")
        if is_extent and offset >= INLINE_BYTES_MAX:
            ino = keys.ino_of(finding.key)
            message = f"the extent of inode {ino} at offset {offset} is unreadable or inline"
            yield Finding("inline_at_head", finding.key, message)


def check_content(census: Census) -> Iterator[Finding]:
    """Extents belong to files, end within the size, and add up to stored_bytes."""
    for ino, content in census.contents.items():
        inode = census.inodes.get(ino)
        if inode is None:
            yield _ownerless("content", census, ino, "content")
        elif not inode.is_file:
            key = keys.extent_key(ino, 0)
            yield Finding("content", key, f"extents belong to inode {ino}, which is no file")
        elif content.end > inode.size:
            fixed = replace(inode, size=content.end)
            yield of_inode("content", inode, f"size {inode.size}, content to {content.end}", fixed)
    for inode in census.inodes.values():
        stored = census.contents.get(inode.ino, Content()).stored_bytes
        if inode.stored_bytes != stored:
            fixed = replace(inode, stored_bytes=stored)
            message = f"stored_bytes {inode.stored_bytes}, extents hold {stored}"
            yield of_inode("content", inode, message, fixed)


def check_xattr_counts(census: Census) -> Iterator[Finding]:
    """xattr_count is the number of extended attributes, and none is of an inode that is gone."""
    for inode in census.inodes.values():
        count = census.xattr_counts[inode.ino]
        if inode.xattr_count != count:
            fixed = replace(inode, xattr_count=count)
            message = f"xattr_count {inode.xattr_count}, counted {count}"
            yield of_inode("xattr_counts", inode, message, fixed)
    for ino in sorted(census.xattr_counts.keys() - census.inodes.keys()):
        yield _ownerless("xattr_counts", census, ino, "extended attributes")


def _ownerless(check: str, census: Census, ino: InodeId, what: str) -> Finding:
    """What is left of a lost inode makes a file again, so that nobody's data is deleted; the check
    of link counts then finds that it has no name, and gives it one."""
    content = census.contents.get(ino, Content())
    inode = Inode(
        ino=ino,
        mode=stat.S_IFREG | 0o600,
        uid=0,
        gid=0,
        rdev=0,
        nlink=1,
        size=content.end,
        atime_ns=0,
        mtime_ns=0,
        ctime_ns=0,
        btime_ns=0,
        parent=InodeId(0),
        xattr_count=census.xattr_counts[ino],
        stored_bytes=content.stored_bytes,
    )
    return of_inode(check, inode, f"its {what} are there, but it is not", inode)


# ---------------------------------------------------------------- blocks


def check_reference_counts(census: Census) -> Iterator[Finding]:
    """A block's count is the number of extents that name it, and such a block is not condemned
    (I6)."""
    for block_id, use in census.block_uses.items():
        if block_id not in census.block_refs:
            message = f"block {block_id.hex()} is named by {use.count} extents but has no count"
            yield Finding("reference_counts", keys.block_key(block_id), message)
    for block_id, ref in census.block_refs.items():
        count = census.block_uses.get(block_id, BlockUse()).count
        if ref.count == count:
            continue
        key = keys.block_key(block_id)
        message = f"block {block_id.hex()} counts {ref.count} references, {count} extents name it"
        if ref.is_condemned:
            message += ", and it is condemned"
        yield Finding("reference_counts", key, message, repair={key: BlockRef(count, ref.length)})


def check_blocks_hold_extents(census: Census) -> Iterator[Finding]:
    """Every extent lies within its block (I6: so no count stands for bytes that are nowhere)."""
    for block_id, use in census.block_uses.items():
        ref = census.block_refs.get(block_id)
        if ref is not None and use.end > ref.length:
            ino = keys.ino_of(use.key)
            message = f"an extent of inode {ino} ends at {use.end} of block {block_id.hex()}"
            yield Finding("blocks_hold_extents", use.key, f"{message}, which has {ref.length}")


def check_garbage_queue(census: Census) -> Iterator[Finding]:
    """A block waits in the garbage queue exactly while its count is zero (I6)."""
    unused = {block_id for block_id, ref in census.block_refs.items() if ref.count == 0}
    for block_id in sorted(unused ^ census.garbage):
        key, counted_in = keys.garbage_key(block_id), (keys.block_key(block_id),)
        mark: Garbage | None = Garbage()
        what = "unused but not in the garbage queue"
        if block_id not in unused:
            mark, what = None, "in the garbage queue but in use or unknown"
        message = f"block {block_id.hex()} is {what}"
        yield Finding("garbage_queue", key, message, repair={key: mark}, relies_on=counted_in)


# ---------------------------------------------------------------- orphans and counters


def check_orphans(census: Census) -> Iterator[Finding]:
    """An inode is marked as an orphan exactly while it has no name."""
    nameless = {ino for ino, inode in census.inodes.items() if inode.nlink == 0}
    for ino in sorted(nameless ^ census.orphans):
        key, named_in = keys.orphan_key(ino), (keys.inode_key(ino),)
        mark: Orphan | None = Orphan()
        what = "has no name, but is not marked as an orphan"
        if ino not in nameless:
            mark, what = None, "is marked as an orphan but has a name or is gone"
        message = f"inode {ino} {what}"
        yield Finding("orphans", key, message, repair={key: mark}, relies_on=named_in)


def check_orphans_held(census: Census, held: set[InodeId]) -> Iterator[Finding]:
    """An orphan is held open, or waits to be taken apart; what is held exists. Never errors by
    themselves."""
    for ino in sorted(census.orphans - held):
        message = f"orphan {ino} waits to be taken apart"
        yield Finding("orphans_held", keys.orphan_key(ino), message, is_error=False)
    for ino in sorted(held - census.inodes.keys()):
        message = f"inode {ino} is held open but is gone"
        yield Finding("orphans_held", keys.inode_key(ino), message, is_error=False)


def check_counters(census: Census) -> Iterator[Finding]:
    """Totals are exact, and no number in use could be given out again."""
    key, counters = keys.COUNTERS_KEY, census.counters
    if counters is None:
        yield Finding("counters", key, "the volume's counters are missing")
        return
    sessions = census.sessions
    inos = [*census.inodes, *(session.end_ino - 1 for session in sessions)]
    fixed = replace(
        counters,
        next_ino=InodeId(max(counters.next_ino, max(inos, default=0) + 1)),
        next_session=max(counters.next_session, *(s.session_id + 1 for s in sessions), 0),
        inode_count=len(census.inodes),
        stored_bytes=sum(inode.stored_bytes for inode in census.inodes.values()),
    )
    if fixed != counters:
        message = f"the volume's counters are {counters}, they should be {fixed}"
        yield Finding("counters", key, message, repair={key: fixed})


CONTENT_CHECKS: tuple[Callable[[Census], Iterator[Finding]], ...] = (
    check_extents_apart,
    check_inline_at_head,
    check_content,
    check_xattr_counts,
    check_reference_counts,
    check_blocks_hold_extents,
    check_garbage_queue,
    check_orphans,
    check_counters,
)
