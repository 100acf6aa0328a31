"""The ops: one Struct per change of the namespace. What they mean is in `apply.py` and its family
files.

An op carries everything that it depends on (who asks, the time, the new inode's number), so
applying it is deterministic: the same op over the same records gives the same result anywhere.
"""

from __future__ import annotations

import msgspec

from dfs.core.namespace.records import Inode
from dfs.types import BlockId, Credentials, InodeId

RENAME_NOREPLACE = 1
"""Flags of renameat2(2)."""
RENAME_EXCHANGE = 2
XATTR_CREATE = 1
"""Flags of setxattr(2)."""
XATTR_REPLACE = 2


class Op(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Base of all ops."""

    credentials: Credentials
    now_ns: int
    """Becomes the time stamps that the op sets."""


class Create(Op, frozen=True, tag=True, kw_only=True):
    """open(O_CREAT) and mknod(2): a file, fifo, socket or device. `mode` has the type; the umask
    is already applied."""

    parent: InodeId
    name: bytes
    ino: InodeId
    """A number that was never used: from the session's range."""
    mode: int
    rdev: int = 0
    is_exclusive: bool = True
    """False: if the name exists, the result is the existing inode and nothing changes."""


class Mkdir(Op, frozen=True, tag=True, kw_only=True):
    """mkdir(2). `mode`: permission bits, the umask already applied."""

    parent: InodeId
    name: bytes
    ino: InodeId
    mode: int


class Symlink(Op, frozen=True, tag=True, kw_only=True):
    """symlink(2)."""

    parent: InodeId
    name: bytes
    ino: InodeId
    target: bytes


class Link(Op, frozen=True, tag=True, kw_only=True):
    """link(2): one more name for an inode that is no directory."""

    ino: InodeId
    parent: InodeId
    name: bytes


class Unlink(Op, frozen=True, tag=True, kw_only=True):
    """unlink(2). An inode that loses its last name becomes an orphan."""

    parent: InodeId
    name: bytes


class Rmdir(Op, frozen=True, tag=True, kw_only=True):
    """rmdir(2)."""

    parent: InodeId
    name: bytes


class Rename(Op, frozen=True, tag=True, kw_only=True):
    """renameat2(2). An overwritten inode that loses its last name becomes an orphan."""

    parent: InodeId
    name: bytes
    new_parent: InodeId
    new_name: bytes
    flags: int = 0


class SetAttr(Op, frozen=True, tag=True, kw_only=True):
    """chmod(2), chown(2), truncate(2), utimensat(2), any of them at once. None leaves a field
    alone."""

    ino: InodeId
    mode: int | None = None
    """Permission bits (07777)."""
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None
    is_atime_now: bool = False
    """UTIME_NOW: sets `now_ns`; write permission is enough (the owner is not required)."""
    is_mtime_now: bool = False
    has_handle: bool = False
    """The caller holds the file open for writing: changing the size needs no permission
    (ftruncate(2))."""


class SetXattr(Op, frozen=True, tag=True, kw_only=True):
    """setxattr(2). `flags`: 0, XATTR_CREATE or XATTR_REPLACE."""

    ino: InodeId
    name: bytes
    value: bytes
    flags: int = 0


class RemoveXattr(Op, frozen=True, tag=True, kw_only=True):
    """removexattr(2)."""

    ino: InodeId
    name: bytes


class Piece(msgspec.Struct, frozen=True, array_like=True):
    """New content of a range of a file: part of a stored block, inline bytes, or a hole.

    Exactly one of `block_id` and `inline` is set, or neither for a hole.
    """

    offset: int
    length: int
    block_id: BlockId = BlockId(b"")
    block_offset: int = 0
    block_length: int = 0
    """Plain bytes of the whole block; 0 unless `block_id` is set."""
    inline: bytes = b""


class CommitData(Op, frozen=True, tag=True, kw_only=True):
    """Content that a client has uploaded becomes the file's (I1: its blocks are on stable storage).

    Pieces are sorted by offset and do not overlap. The size grows to the last piece's end. Needs no
    permission: that was checked at open. Clears setuid, setgid and security.capability, unless the
    writer is privileged, as write(2) does. Sets mtime and ctime to `now_ns`.
    """

    ino: InodeId
    pieces: tuple[Piece, ...]
    uploaded_since: int | None = None
    """The delete_number that the client knew before it began to upload these blocks. The server
    refuses (EAGAIN) what may have been deleted since; None: it cannot tell."""
    keeps_attributes: bool = False
    """All of it was written before somebody set the attributes that the file has now: times and
    mode stay as they are."""
    expected_version: int | None = None
    """The data_version of the file whose end this is appended to. With any other one nothing is
    done: EBUSY."""


class Reclaim(Op, frozen=True, tag=True, kw_only=True):
    """Takes an orphan apart that nobody holds, a bounded step at a time. Only the metadata server
    makes these.

    The result's `inode` is None once nothing is left of it.
    """

    ino: InodeId


class TrimTail(Op, frozen=True, tag=True, kw_only=True):
    """Cuts a bounded number of extents off a file's end, but never below `size`, and sets the size
    to what is left.

    Truncating a file of very many extents is several of these and then a SetAttr. Only the metadata
    server makes these.
    """

    ino: InodeId
    size: int


AnyOp = (
    Create
    | Mkdir
    | Symlink
    | Link
    | Unlink
    | Rmdir
    | Rename
    | SetAttr
    | SetXattr
    | RemoveXattr
    | CommitData
    | Reclaim
    | TrimTail
)

ClientOp = (
    Create
    | Mkdir
    | Symlink
    | Link
    | Unlink
    | Rmdir
    | Rename
    | SetAttr
    | SetXattr
    | RemoveXattr
    | CommitData
)
"""What a client may send."""


class OpResult(msgspec.Struct, frozen=True):
    """What an op gives back."""

    inode: Inode | None = None
    """The object after the op: created, linked, renamed, changed, or (after its last name went)
    the orphan."""
    orphans: tuple[InodeId, ...] = ()
    """Inodes that lost their last name by this op."""
    is_new: bool = True
    """Create: False when the name existed already."""


class Divide(Exception):
    """The op changes too many records for one batch: apply and commit `first`, then apply the op
    again."""

    def __init__(self, first: TrimTail | Reclaim | CommitData) -> None:
        super().__init__(first)
        self.first = first
