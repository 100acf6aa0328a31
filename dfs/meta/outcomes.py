"""What became of an op that had its effect some time ago: told from the current records (I8)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from dfs.core.messages import OpOutcome
from dfs.core.namespace.apply import apply
from dfs.core.namespace.directories import lookup
from dfs.core.namespace.keys import dentry_key, inode_key
from dfs.core.namespace.ops import (
    CommitData,
    Create,
    Link,
    Mkdir,
    OpResult,
    RemoveXattr,
    SetAttr,
    SetXattr,
    Symlink,
)
from dfs.core.namespace.records import Inode
from dfs.core.namespace.view import Overlay
from dfs.errors import FsError

if TYPE_CHECKING:
    from dfs.core.namespace.ops import ClientOp
    from dfs.core.namespace.view import View


def outcome_again(view: View, op: ClientOp) -> OpOutcome:
    """The outcome of an op that succeeded, as far as the records of now can tell. Raises Missing.

    The inode is the one of now. What was made and is removed again is told as it was made: others
    may have seen it, so it must not be told as a failure. Other changes of what is gone are told so
    (ESTALE): to the client that is the same as if they had been a little later.
    """
    try:
        return OpOutcome(result=_result_again(view, op))
    except FsError as error:
        return OpOutcome(errno=error.errno)


def _result_again(view: View, op: ClientOp) -> OpResult:
    match op:
        case Create() | Mkdir() | Symlink():
            return _make_again(view, op)
        case Link() | SetAttr() | CommitData() | SetXattr() | RemoveXattr():
            inode = view.get(inode_key(op.ino), Inode)
            if inode is None:
                raise FsError(errno.ESTALE, f"inode {op.ino} is gone")
            return OpResult(inode)
        case _:
            return OpResult()


def _make_again(view: View, op: Create | Mkdir | Symlink) -> OpResult:
    """The inode that it made or, if it was not exclusive and made none, the one of that name."""
    inode = view.get(inode_key(op.ino), Inode)
    if inode is not None:
        return OpResult(inode)
    if isinstance(op, Create) and not op.is_exclusive:
        return OpResult(lookup(view, op.parent, op.name), is_new=False)
    overlay = Overlay(view)
    overlay.delete(dentry_key(op.parent, op.name))
    try:
        return apply(overlay, op)
    except FsError as error:
        raise FsError(errno.ESTALE, f"inode {op.ino} is gone, and where it was: {error}") from error
