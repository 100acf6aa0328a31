"""What every message is, and the two replies that both services give."""

from __future__ import annotations

import msgspec

PROTOCOL_VERSION = 1


class Message(msgspec.Struct, frozen=True, tag=True, kw_only=True, omit_defaults=True):
    """Base of all requests and replies."""


class Failure(Message, frozen=True, tag=True, kw_only=True):
    """The request failed. `kind` is the name of a class of dfs.errors; `errno` is set for
    FsError."""

    kind: str
    message: str
    errno: int = 0


class Done(Message, frozen=True, tag=True, kw_only=True):
    """It happened; there is nothing else to say."""
