"""Metadata service: a client comes, stays and goes."""

from __future__ import annotations

import msgspec

from dfs.core.messages.base import Message
from dfs.types import ClusterId, ClusterMap, InodeId, MapEpoch, OpNumber, SessionId, VolumeSettings


class OpenSession(Message, frozen=True, tag=True, kw_only=True):
    """A client arrives (session_id 0) or comes back after a lost link or a server restart.

    Coming back it names what it holds open; a session that was expired is answered with Fenced.
    """

    client: str
    cluster_id: ClusterId = ClusterId("")
    """The cluster it expects; empty if it does not know. A mismatch is answered with
    WrongCluster."""
    session_id: SessionId = SessionId(0)
    held: tuple[InodeId, ...] = ()
    opening: int = 0
    """Counts the client's openings: one that lingered on an older link comes too late to say what
    is held (I6)."""
    wants_leases: bool = False
    """It answers recalls. On return it has forgotten all that was leased to it before."""
    exclusive: tuple[InodeId, ...] = ()
    """On return: what it goes on to have exclusively, because ops that it has done by itself are
    not answered yet. Fenced if somebody else may have seen or changed it."""


class SessionReply(Message, frozen=True, tag=True, kw_only=True):
    session_id: SessionId
    last_op: OpNumber
    """Ops up to here are durable or failed for good; re-send only to learn the outcome (I8)."""
    first_ino: InodeId
    """Inode numbers [first_ino, end_ino) are the session's to use; on return, those may be partly
    used."""
    end_ino: InodeId
    settings: VolumeSettings
    cluster_map: ClusterMap
    session_ttl_s: float
    delete_number: int = 0
    """Grows whenever blocks were deleted; see CommitData.uploaded_since."""


class Recall(msgspec.Struct, frozen=True, array_like=True):
    """What a session has to forget before somebody's change can happen; see AnswerRecalls."""

    number: int
    """Counts the recalls of a server."""
    touched: dict[InodeId, tuple[bytes, ...]]
    """Inodes, with the names of entries in them; without names, everything about the inode."""
    is_shared: bool = False
    """Somebody only looks at them: nothing is to be forgotten, but what the session has changed by
    itself is to be made durable, and it may change no more of them so."""


class KeepAlive(Message, frozen=True, tag=True, kw_only=True):
    """I am alive; tell me if the map changed, and what I have to forget. Also carries what was
    closed, and which leases were given back since.

    The answer comes when there is something to forget, or after `wait_s`.
    """

    session_id: SessionId
    map_epoch: MapEpoch
    releases: tuple[InodeId, ...] = ()
    given_back: tuple[InodeId, ...] = ()
    holds: tuple[InodeId, ...] = ()
    """What the session has open, of what it gives back; see Open."""
    wait_s: float = 0


class KeepAliveReply(Message, frozen=True, tag=True, kw_only=True):
    cluster_map: ClusterMap | None = None
    """Set when it is newer than the one the client named."""
    delete_number: int = 0
    """Grows whenever blocks were deleted; see CommitData.uploaded_since."""
    recalls: tuple[Recall, ...] = ()


class AnswerRecalls(Message, frozen=True, tag=True, kw_only=True):
    """The session, and all that it told what it knew, has forgotten this, and all ops on it that it
    did by itself are durable. Answered with Done."""

    session_id: SessionId
    numbers: tuple[int, ...]
    holds: tuple[InodeId, ...] = ()
    """What the session has open, of what it has forgotten; see Open."""


class CloseSession(Message, frozen=True, tag=True, kw_only=True):
    """The client leaves: everything it held is let go. Answered with Done."""

    session_id: SessionId


class TakeInodeRange(Message, frozen=True, tag=True, kw_only=True):
    """More inode numbers, durable before they are handed out (no number is ever given twice)."""

    session_id: SessionId


class InodeRangeReply(Message, frozen=True, tag=True, kw_only=True):
    first_ino: InodeId
    end_ino: InodeId
