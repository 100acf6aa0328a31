"""What became of an op that had its effect some time ago: told from the current records (I8)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from dfs.core.messages import OpOutcome
from dfs.core.namespace.directories import lookup
from dfs.core.namespace.keys import inode_key
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
from dfs.errors import FsError

if TYPE_CHECKING:
    from dfs.core.namespace.ops import ClientOp
    from dfs.core.namespace.view import View


def outcome_again(view: View, op: ClientOp) -> OpOutcome:
    """The outcome of an op that succeeded, as far as the records of now can tell. Raises Missing.

    The inode is the one of now. What others have removed meanwhile is told as gone (ESTALE): to the
    client that is the same as if they had been a little later.
    """
    try:
        return OpOutcome(result=_result_again(view, op))
    except FsError as error:
        return OpOutcome(errno=error.errno)


def _result_again(view: View, op: ClientOp) -> OpResult:
    match op:
        case Create():
            return _create_again(view, op)
        case Mkdir() | Symlink() | Link() | SetAttr() | CommitData() | SetXattr() | RemoveXattr():
            inode = view.get(inode_key(op.ino), Inode)
            if inode is None:
                raise FsError(errno.ESTALE, f"inode {op.ino} is gone")
            return OpResult(inode)
        case _:
            return OpResult()


def _create_again(view: View, op: Create) -> OpResult:
    """The inode that it made or, if it was not exclusive and made none, the one of that name."""
    inode = view.get(inode_key(op.ino), Inode)
    if inode is not None:
        return OpResult(inode)
    if op.is_exclusive:
        raise FsError(errno.ESTALE, f"inode {op.ino} is gone")
    return OpResult(lookup(view, op.parent, op.name), is_new=False)
