"""Refuses ops whose numbers no program could have asked for.

Ops arrive from clients that are not trusted: a number out of range is their fault and answered,
where further inside it would be ours and stop the process.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from dfs.core.namespace.ops import CommitData, Create, Mkdir, Piece, Rename, SetAttr
from dfs.errors import FsError
from dfs.limits import INODE_COUNTER_BITS, SHARD_BITS, TIME_NS_MAX, TIME_NS_MIN

if TYPE_CHECKING:
    from dfs.core.namespace.ops import AnyOp
    from dfs.types import Credentials

INO_MAX = (1 << (SHARD_BITS + INODE_COUNTER_BITS)) - 1
ID_MAX = (1 << 32) - 2
"""Largest uid and gid: (uid_t) -1 means "leave it alone"."""
MODE_MAX = 0o177777
RDEV_MAX = (1 << 32) - 1
SIZE_MAX = (1 << 64) - 1
"""Sizes beyond FILE_BYTES_MAX have their own errno."""


def check_shape(op: AnyOp) -> None:
    """Raises FsError(EINVAL) for an inode number, id, mode, time or size that cannot be."""
    _check_credentials(op.credentials)
    _check("time", op.now_ns, TIME_NS_MIN, TIME_NS_MAX)
    for field in ("ino", "parent"):
        ino = getattr(op, field, None)
        if ino is not None:
            _check(field, ino, 1, INO_MAX)
    match op:
        case Create():
            _check("mode", op.mode, 0, MODE_MAX)
            _check("rdev", op.rdev, 0, RDEV_MAX)
        case Mkdir():
            _check("mode", op.mode, 0, MODE_MAX)
        case Rename():
            _check("new_parent", op.new_parent, 1, INO_MAX)
        case SetAttr():
            _check_attributes(op)
        case CommitData():
            for piece in op.pieces:
                _check_piece(piece)
        case _:
            pass


def _check(what: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise FsError(errno.EINVAL, f"{what} {value} is not within {low} … {high}")


def _check_credentials(credentials: Credentials) -> None:
    for number in (credentials.uid, credentials.gid, *credentials.groups):
        _check("id", number, 0, ID_MAX)


def _check_attributes(op: SetAttr) -> None:
    limits = (
        ("mode", op.mode, 0, MODE_MAX),
        ("uid", op.uid, 0, ID_MAX),
        ("gid", op.gid, 0, ID_MAX),
        ("size", op.size, 0, SIZE_MAX),
        ("atime", op.atime_ns, TIME_NS_MIN, TIME_NS_MAX),
        ("mtime", op.mtime_ns, TIME_NS_MIN, TIME_NS_MAX),
    )
    for what, value, low, high in limits:
        if value is not None:
            _check(what, value, low, high)


def _check_piece(piece: Piece) -> None:
    """Ranges in relation to each other are `pieces.check`'s."""
    _check("offset", piece.offset, 0, SIZE_MAX)
    _check("length", piece.length, 0, SIZE_MAX)


assert INO_MAX == (1 << 64) - 1
