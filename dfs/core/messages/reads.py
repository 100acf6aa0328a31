"""Metadata service: what is there, and what is held open."""

from __future__ import annotations

import msgspec

from dfs.core.messages.base import Message
from dfs.core.namespace.records import Extent, Inode
from dfs.types import InodeId, SessionId, SpaceUsage

NO_SESSION = SessionId(0)
"""Who asks in nobody's name gets no leases."""


class Lookup(Message, frozen=True, tag=True, kw_only=True):
    """Answered with InodeReply, or ENOENT, ENOTDIR, ENAMETOOLONG, ESTALE (the directory is
    gone)."""

    session_id: SessionId = NO_SESSION
    parent: InodeId
    name: bytes


class GetAttr(Message, frozen=True, tag=True, kw_only=True):
    """Answered with InodeReply, or ESTALE."""

    session_id: SessionId = NO_SESSION
    ino: InodeId


class InodeReply(Message, frozen=True, tag=True, kw_only=True):
    inode: Inode | None
    """None: the directory has no such entry, and the session may remember that."""
    is_leased: bool = False
    """The session may remember the inode until it is recalled."""
    is_entry_leased: bool = False
    """Lookup: the session may remember what the name leads to, or that it leads nowhere."""
    is_exclusive: bool = False
    """Lookup: the session has the inode exclusively, as it has the directory."""


class Open(Message, frozen=True, tag=True, kw_only=True):
    """Hold an inode so that it outlives its last name, and fetch what a reader needs. Answered
    with OpenReply."""

    session_id: SessionId
    ino: InodeId


class OpenReply(Message, frozen=True, tag=True, kw_only=True):
    inode: Inode
    extents: tuple[Extent, ...] = ()
    """The file's first extents, by offset."""
    is_complete: bool = True
    """`extents` holds all there are."""


class Release(Message, frozen=True, tag=True, kw_only=True):
    """The session no longer holds these (last close). Answered with Done.

    A client sends no Open for an inode while a release of it is under way.
    """

    session_id: SessionId
    inos: tuple[InodeId, ...]


class ReadExtents(Message, frozen=True, tag=True, kw_only=True):
    """Extents that touch [start, end), by offset, with the inode of the same moment. Answered with
    ExtentsReply."""

    ino: InodeId
    start: int
    end: int


class ExtentsReply(Message, frozen=True, tag=True, kw_only=True):
    inode: Inode
    extents: tuple[Extent, ...]
    end: int
    """The reply covers [start, end): less than asked when there were too many for one reply."""


class ReadDirectory(Message, frozen=True, tag=True, kw_only=True):
    """Entries whose names sort after `after`, with attributes. Answered with DirectoryReply."""

    session_id: SessionId = NO_SESSION
    ino: InodeId
    after: bytes = b""
    limit: int = 1000


class DirectoryEntry(msgspec.Struct, frozen=True, array_like=True):
    name: bytes
    inode: Inode


class DirectoryReply(Message, frozen=True, tag=True, kw_only=True):
    entries: tuple[DirectoryEntry, ...]
    is_last: bool
    is_leased: bool = False
    """The session may remember these entries and their inodes until they are recalled."""
    exclusive: tuple[InodeId, ...] = ()
    """Of these inodes, what the session has exclusively, as it has the directory."""


class GetXattr(Message, frozen=True, tag=True, kw_only=True):
    """Answered with XattrReply, or ENODATA, ESTALE."""

    ino: InodeId
    name: bytes


class XattrReply(Message, frozen=True, tag=True, kw_only=True):
    value: bytes


class ListXattrs(Message, frozen=True, tag=True, kw_only=True):
    """Answered with XattrNamesReply, or ESTALE."""

    ino: InodeId


class XattrNamesReply(Message, frozen=True, tag=True, kw_only=True):
    names: tuple[bytes, ...]


class StatFs(Message, frozen=True, tag=True, kw_only=True):
    """Answered with StatFsReply."""


class StatFsReply(Message, frozen=True, tag=True, kw_only=True):
    inode_count: int
    stored_bytes: int
    """What files hold, before deduplication and copies."""
    space: SpaceUsage
    """Raw: the sum over chunk servers that are not out. Divide by copies for what files may use."""
