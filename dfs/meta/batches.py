"""A batch: the changes that one commit makes durable together, while they gather and are written.

| state | changes may come | reads see them | answers that show them |
|---|---|---|---|
| open | yes | yes | wait |
| being written | no | yes | wait |
| landed | no | yes, as committed records | go out (I3) |
| failed | no | no: nothing of it remains | are told why, or found again |
"""

from __future__ import annotations

from bisect import bisect_left
from copy import copy
from typing import TYPE_CHECKING, Final, Protocol

import trio

from dfs.core.namespace.records import Extent, Inode, Record, SessionRecord, Xattr
from dfs.core.namespace.view import Overlay
from dfs.limits import ENGINE_BATCH_BYTES_MAX, ENGINE_BATCH_RECORDS_MAX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dfs.core.namespace.view import View
    from dfs.engine.api import EngineLimits
    from dfs.errors import DfsError

RECORD_BYTES: Final = 256
"""About what a record without bytes of a file takes, key included."""
FAILED_OP_BYTES: Final = 12


class Follower(Protocol):
    """Hears what becomes of a batch, before anybody else can act on it."""

    def on_landed(self) -> None: ...

    def on_failed(self, error: DfsError) -> None: ...


class BatchFull(Exception):
    """The open batch has no room for the change: wait until it is being written, try again."""

    def __init__(self, batch: Batch) -> None:
        super().__init__(batch)
        self.batch = batch


class BatchOverlay(Overlay):
    """An overlay that can be asked whether it changes anything in a range."""

    def changes_in(self, start: bytes, end: bytes) -> bool:
        at = bisect_left(self._sorted_keys, start)
        return at < len(self._sorted_keys) and self._sorted_keys[at] < end


class Batch:
    """Changes stacked on `base`, and those who wait for them."""

    def __init__(self, base: View, limits: EngineLimits) -> None:
        self.overlay = BatchOverlay(base)
        # One record is the fence's.
        self._records_max = min(limits.batch_records_max, ENGINE_BATCH_RECORDS_MAX) - 1
        self._bytes_max = min(limits.batch_bytes_max, ENGINE_BATCH_BYTES_MAX)
        self._bytes = 0
        self._followers: list[Follower] = []
        self.sealed = trio.Event()
        """Set once no more changes can come."""
        self._over = trio.Event()
        self._error: DfsError | None = None

    @property
    def changes(self) -> Mapping[bytes, Record | None]:
        return self.overlay.changes

    def absorb(self, changes: Mapping[bytes, Record | None]) -> None:
        """Take all of these changes, or raise BatchFull. An empty batch takes whatever comes."""
        assert not self.sealed.is_set()
        added_bytes = sum(map(_record_bytes, changes.values()))
        if self.changes:
            new_count = sum(key not in self.changes for key in changes)
            is_too_many = len(self.changes) + new_count > self._records_max
            if is_too_many or self._bytes + added_bytes > self._bytes_max:
                raise BatchFull(self)
        self._bytes += added_bytes
        for key, record in changes.items():
            if record is None:
                self.overlay.delete(key)
            else:
                self.overlay.put(key, record)

    def follow(self, follower: Follower) -> None:
        """Have someone hear what becomes of this batch; in the order in which they came."""
        assert not self._over.is_set()
        self._followers.append(follower)

    async def landed(self) -> None:
        """Return once the batch is durable (I3). Raises why it failed."""
        await self._over.wait()
        if self._error is not None:
            # Each caller gets its own: an exception carries the traceback of one task.
            raise copy(self._error)

    async def has_landed(self) -> bool:
        """Whether the batch became durable, once that is known."""
        await self._over.wait()
        return self._error is None

    def end(self, error: DfsError | None) -> None:
        """Tell everyone. Without an error it is durable, and its changes are committed records."""
        assert not self._over.is_set()
        self.sealed.set()
        self._error = error
        followers, self._followers = self._followers, []
        for follower in followers:
            if error is None:
                follower.on_landed()
            else:
                follower.on_failed(error)
        self._over.set()


def _record_bytes(record: Record | None) -> int:
    if isinstance(record, Extent):
        return RECORD_BYTES + len(record.inline)
    if isinstance(record, Xattr):
        return RECORD_BYTES + len(record.value)
    if isinstance(record, Inode):
        return RECORD_BYTES + len(record.target)
    if isinstance(record, SessionRecord):
        return RECORD_BYTES + FAILED_OP_BYTES * len(record.failed_ops)
    return RECORD_BYTES
