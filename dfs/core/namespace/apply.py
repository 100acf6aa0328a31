"""One op over a view: `apply` finds the family that knows its meaning. Dispatch only."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from dfs.core.namespace import attributes, entries, extents, orphans, rename, xattrs
from dfs.core.namespace.ops import (
    AnyOp,
    CommitData,
    Create,
    Link,
    Mkdir,
    OpResult,
    Reclaim,
    RemoveXattr,
    Rename,
    Rmdir,
    SetAttr,
    SetXattr,
    Symlink,
    TrimTail,
    Unlink,
)
from dfs.core.namespace.shape import check_shape

if TYPE_CHECKING:
    from dfs.core.namespace.view import Overlay


def apply(overlay: Overlay, op: AnyOp) -> OpResult:
    """What the op gives; its changes are in the overlay. Deterministic: no clock, no chance.

    The overlay must be the op's own, stacked on what earlier ops left. After any exception its
    owner drops it: it may be half changed then. Raises FsError (the answer), Missing (fetch, then
    apply again on a fresh overlay), Divide (apply and commit `first`, then this op again).
    """
    check_shape(op)
    result = _dispatch(overlay, op)
    assert result.inode is None or result.inode.ino > 0
    return result


def _dispatch(overlay: Overlay, op: AnyOp) -> OpResult:
    match op:
        case Create():
            return entries.create(overlay, op)
        case Mkdir():
            return entries.mkdir(overlay, op)
        case Symlink():
            return entries.symlink(overlay, op)
        case Link():
            return entries.link(overlay, op)
        case Unlink():
            return entries.unlink(overlay, op)
        case Rmdir():
            return entries.rmdir(overlay, op)
        case Rename():
            return rename.rename(overlay, op)
        case SetAttr():
            return attributes.set_attributes(overlay, op)
        case SetXattr():
            return xattrs.set_xattr(overlay, op)
        case RemoveXattr():
            return xattrs.remove_xattr(overlay, op)
        case CommitData():
            return extents.commit_data(overlay, op)
        case TrimTail():
            return extents.trim_tail(overlay, op)
        case Reclaim():
            return orphans.reclaim(overlay, op)
        case _:
            assert_never(op)
