"""The engine seam: an ordered map of bytes to bytes, small enough for an embedded store and a
database alike.

Calls block and are made from worker threads (`Environment.run_blocking`); one engine object may be
called from several threads at once. Leases, fencing, group commit and retries live above this
seam, once; engines never retry by themselves. `tests/contract/engine_contract.py` is the meaning
of this file in executable form.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import msgspec

from dfs.errors import DfsError, OutcomeUnknown
from dfs.limits import (
    ENGINE_BATCH_BYTES_MAX,
    ENGINE_BATCH_RECORDS_MAX,
    ENGINE_KEY_BYTES_MAX,
    ENGINE_VALUE_BYTES_MAX,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

Row = tuple[bytes, bytes]


class EngineLimits(msgspec.Struct, frozen=True):
    """What one commit may carry."""

    key_bytes_max: int = ENGINE_KEY_BYTES_MAX
    value_bytes_max: int = ENGINE_VALUE_BYTES_MAX
    batch_records_max: int = 16 * ENGINE_BATCH_RECORDS_MAX
    batch_bytes_max: int = 64 * ENGINE_BATCH_BYTES_MAX


class Conflict(DfsError):
    """A check failed; nothing was written."""


class Retry(DfsError):
    """Nothing was written; the same commit may be tried again."""

    is_retryable = True


class TooLarge(DfsError):
    """A key, a value or the batch is over the engine's limits; nothing was written."""


class Unknown(OutcomeUnknown):
    """The commit may or may not have happened; only the fence tells."""


class EngineDamaged(DfsError):
    """The store cannot be opened or read. The message names the file and what to do."""


class EngineBusy(DfsError):
    """The store is in use by another process. The message names the directory and the process."""


class SnapshotLost(DfsError):
    """The engine could not hold the moment of an export any longer; start the export again."""

    is_retryable = True


class Engine(ABC):
    """Ordered bytes → bytes. Keys sort as unsigned bytes."""

    limits: EngineLimits

    @abstractmethod
    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Values in the order of `keys`, None where absent: one consistent read of committed
        state."""

    @abstractmethod
    def scan(self, start: bytes, end: bytes, limit: int, *, is_reverse: bool = False) -> list[Row]:
        """The first `limit` rows of the half-open range [start, end), or when reverse the last
        ones, descending.

        One page is consistent in itself; two pages are not one moment.
        """

    @abstractmethod
    def commit(
        self,
        checks: Mapping[bytes, bytes | None],
        puts: Mapping[bytes, bytes],
        deletes: Iterable[bytes] = (),
        clears: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        """Write all, if every check (key → expected value, None for absent) holds; durable when it
        returns (I3).

        `clears` are half-open ranges to empty. Puts, deletes and clears must be disjoint. Raises
        Conflict, Retry, TooLarge, Unknown, NoSpace.
        """

    @abstractmethod
    def wait(self, key: bytes, seen: bytes | None, timeout_s: float) -> bytes | None:
        """A hint that `key`'s value is no longer `seen`: returns its value, at the latest after
        `timeout_s`."""

    @abstractmethod
    def export(self, start: bytes, end: bytes) -> Iterator[list[Row]]:
        """Pages (never empty) of the half-open range, all as of the moment of this call. Close the
        iterator to free it.

        Its pages may be asked for from different threads, one after the other. Raises SnapshotLost.
        """

    @abstractmethod
    def close(self) -> None:
        """Release everything; idempotent. No call may follow."""
