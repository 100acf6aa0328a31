"""Metadata service: the numbered ops of a session's stream."""

from __future__ import annotations

import msgspec

from dfs.core.messages.base import Message
from dfs.core.namespace.ops import ClientOp, OpResult
from dfs.core.namespace.records import Inode
from dfs.types import InodeId, OpNumber, SessionId


class NumberedOp(msgspec.Struct, frozen=True, array_like=True):
    number: OpNumber
    op: ClientOp
    has_hold: bool = False
    """Create: the creator holds the inode open, as after Open."""
    is_foreseen: bool = False
    """The client has the inodes that this changes exclusively, has applied the op to what it knows
    of them, and has told its application the result."""


class ApplyOps(Message, frozen=True, tag=True, kw_only=True):
    """The next ops of the session's stream, numbers consecutive. Answered when all are durable
    (I3).

    A number ≤ the session's last op is not applied again; its outcome is told again (I8).
    """

    session_id: SessionId
    ops: tuple[NumberedOp, ...]
    answered_below: OpNumber = OpNumber(1)
    """The client has the outcome of every op below this: the server may forget them."""
    releases: tuple[InodeId, ...] = ()
    """What was closed since; see Release."""
    holds: tuple[InodeId, ...] = ()
    """What the session has open and has no lease on from now on: held before these ops are done."""
    given_back: tuple[InodeId, ...] = ()
    """Leases that the session has no more: on what these ops change without naming it."""
    wanted: tuple[InodeId, ...] = ()
    """What the session has leased and would have exclusively: it changes what is beside it."""


class OpOutcome(msgspec.Struct, frozen=True):
    """`errno` 0: `result` holds. Otherwise the op failed and changed nothing."""

    errno: int = 0
    result: OpResult | None = None
    kind: str = ""
    """Name of a dfs.errors class when errno alone does not say it; usually empty."""


class ApplyReply(Message, frozen=True, tag=True, kw_only=True):
    outcomes: tuple[OpOutcome, ...]
    """One per op, in order."""
    exclusive: tuple[Inode, ...] = ()
    """What these ops have changed and nobody else has leased: the session has it exclusively from
    now on, as it is here. Of ops that were foreseen nothing is said: what they make belongs
    exclusively to their session."""
    upgraded: tuple[InodeId, ...] = ()
    """Of what was wanted, what the session has exclusively now, as it knows it."""
