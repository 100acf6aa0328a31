"""Taking apart what lost its last name and is held by nobody, a bounded step at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from dfs.core.namespace.extents import REMOVED_PER_OP_MAX, remove_extents
from dfs.core.namespace.inodes import damaged, put_inode
from dfs.core.namespace.keys import inode_key, orphan_key, xattr_range
from dfs.core.namespace.ops import OpResult
from dfs.core.namespace.records import Inode, Orphan, Xattr
from dfs.core.namespace.view import ScanRange
from dfs.limits import OP_RECORDS_MAX

if TYPE_CHECKING:
    from dfs.core.namespace.ops import Reclaim
    from dfs.core.namespace.view import Overlay

XATTRS_PER_OP_MAX = OP_RECORDS_MAX // 10
"""Their values may be large, and a step reads them."""


def reclaim(overlay: Overlay, op: Reclaim) -> OpResult:
    """What is left after this step; `inode` None when nothing is. Keeps I6.

    Extents go first, then extended attributes, then the inode and its Orphan record in one step. A
    number without a record is finished already. Raises Missing.
    """
    inode = overlay.get(inode_key(op.ino), Inode)
    if inode is None:
        return OpResult(None)
    assert inode.nlink == 0
    assert overlay.get(orphan_key(op.ino), Orphan) is not None
    if inode.stored_bytes:
        inode, is_done = remove_extents(overlay, inode)
        if not is_done:
            put_inode(overlay, inode)
            return OpResult(inode)
    if inode.xattr_count:
        inode = _remove_xattrs(overlay, inode)
        if inode.xattr_count:
            put_inode(overlay, inode)
            return OpResult(inode)
    if inode.stored_bytes:
        raise damaged(f"orphan {op.ino} counts more stored bytes than its extents have")
    overlay.delete(inode_key(op.ino))
    overlay.delete(orphan_key(op.ino))
    return OpResult(None)


def _remove_xattrs(overlay: Overlay, inode: Inode) -> Inode:
    rows = overlay.scan(ScanRange(*xattr_range(inode.ino), XATTRS_PER_OP_MAX), Xattr)
    if not 0 < len(rows) <= inode.xattr_count:
        raise damaged(f"orphan {inode.ino} counts {inode.xattr_count} extended attributes")
    for key, _ in rows:
        overlay.delete(key)
    return msgspec.structs.replace(inode, xattr_count=inode.xattr_count - len(rows))


assert REMOVED_PER_OP_MAX * 3 + XATTRS_PER_OP_MAX + 2 <= OP_RECORDS_MAX
