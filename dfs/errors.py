"""The exceptions of dfs. A class exists only if a caller acts on it.

    DfsError
    ├── FsError             an errno: the right answer to a wrong request; never retried
    ├── RetryableError      nothing happened; the same request may be sent again
    │   ├── Disconnected    the link broke or stayed silent before an answer came
    │   └── Overloaded      the other side asks to come back later
    ├── OutcomeUnknown      may have happened; only the op stream may resolve it (I8)
    ├── Fenced              a newer owner or session exists: stop, commit nothing (I7)
    ├── ProtocolError       the bytes make no sense
    │   ├── LocalProtocolError   we were about to send nonsense: a bug of ours
    │   └── RemoteProtocolError  they sent nonsense: close the link
    ├── CorruptBlock        bytes do not match the block's name (I2)
    ├── BlockNotFound       this server does not have the block
    ├── NoSpace             the server's disk is full, or filled up to its reserve
    ├── FormatTooNew        data written by a newer dfs
    ├── WrongCluster        the other side, or the directory, belongs to another cluster
    └── UserError           the command line's one clear line; carries its exit status

`core.namespace.view.Missing` is control flow and stands outside the tree. AssertionError is our
bug: it is never caught, the process stops.
"""

from __future__ import annotations

import errno as errno_names
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class DfsError(Exception):
    """Base of all errors that dfs raises on purpose. `is_retryable`: the same request may be sent
    again."""

    is_retryable: bool = False
    errno: int = errno_names.EIO
    """What an application sees if the error reaches it."""


class FsError(DfsError):
    """An errno, the right answer to a request that cannot be done (errno(3))."""

    def __init__(self, errno: int, detail: str = "") -> None:
        assert errno > 0
        name = errno_names.errorcode.get(errno, str(errno))
        super().__init__(f"{name}: {detail or os.strerror(errno)}")
        self.errno = errno


class RetryableError(DfsError):
    """Nothing happened; the same request may be sent again."""

    is_retryable = True


class Disconnected(RetryableError):
    """The link broke, could not be made, or stayed silent. The message names the address."""


class Overloaded(RetryableError):
    """The other side has too much to do and did nothing."""


class OutcomeUnknown(DfsError):
    """The work may or may not have happened."""


class Fenced(DfsError):
    """A newer owner or session exists; whoever sees this commits nothing more (I7)."""


class ProtocolError(DfsError):
    """The bytes on a link make no sense."""


class LocalProtocolError(ProtocolError):
    """We were about to send what the protocol does not allow."""


class RemoteProtocolError(ProtocolError):
    """The other side sent what the protocol does not allow."""


class CorruptBlock(DfsError):
    """Stored or received bytes do not match the block's name (I2)."""


class BlockNotFound(DfsError):
    """This server does not have the block."""


class NoSpace(DfsError):
    """A disk is full, or filled up to its reserve."""

    errno = errno_names.ENOSPC


class FormatTooNew(DfsError):
    """Data written by a newer dfs. The message says which version it needs."""


class WrongCluster(DfsError):
    """The other side, or a data directory, belongs to another cluster."""


class UserError(DfsError):
    """Ends a command with one line on stderr and this exit status (1 failed, 2 wrong usage)."""

    def __init__(self, message: str, exit_status: int = 1) -> None:
        assert exit_status in (1, 2)
        super().__init__(message)
        self.exit_status = exit_status


def leaves_of(error: BaseException) -> Iterator[BaseException]:
    """The errors that a group holds, however deep; of anything else, itself."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves_of(inner)
    else:
        yield error
