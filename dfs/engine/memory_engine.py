"""The reference engine: a sorted list of keys and a dict, over a storage that outlives it.

`MemoryStorage` stands for the disk. A commit writes to it, then syncs; when the power is cut in
between, the simulation decides whether the batch reached the disk. A batch is never there in part.

| state of a batch | reads see it | after a power cut |
|---|---|---|
| written | no: its commit has not returned | kept or forgotten, as the cut says |
| synced | yes | there |
"""

from __future__ import annotations

import threading
from bisect import bisect_left, insort
from typing import TYPE_CHECKING

from dfs.engine.api import Conflict, EngineDamaged, EngineLimits, Row
from dfs.engine.embedded import PAGE_ROWS_MAX, Batch, EmbeddedEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


class MemoryStorage:
    """The disk under memory engines, one engine at a time; owns the rows.

    `before_sync` is called in every commit between write and sync, while other calls wait: raising
    from it, or cutting the power in it, is how a simulation interrupts a commit.
    """

    def __init__(self, *, before_sync: Callable[[], None] | None = None) -> None:
        self.before_sync = before_sync
        self.power_cut_count = 0
        self._lock = threading.RLock()
        self._values: dict[bytes, bytes] = {}
        self._keys: list[bytes] = []
        self._unsynced: Batch | None = None

    def power_cut(self, *, is_unsynced_kept: bool = False) -> None:
        """Everything that ran on this disk stops: its engines answer EngineDamaged from now on.

        A batch that was being committed is wholly there or not at all, as the argument says.
        """
        with self._lock:
            self.power_cut_count += 1
            unsynced, self._unsynced = self._unsynced, None
            if unsynced is not None and is_unsynced_kept:
                self._apply(unsynced)
            self._assert_sorted()

    def commit(self, batch: Batch) -> None:
        """Write, sync, apply. What `before_sync` raises passes through and leaves the batch
        unsynced."""
        with self._lock:
            assert self._unsynced is None, "an interrupted commit needs a power cut"
            for key, expected in batch.checks.items():
                if self._values.get(key) != expected:
                    raise Conflict(f"key {key.hex()} changed")
            self._unsynced = batch
            power_cut_count = self.power_cut_count
            if self.before_sync is not None:
                self.before_sync()
            if power_cut_count != self.power_cut_count:
                raise EngineDamaged("the power was cut in the middle of a commit")
            self._apply(batch)
            self._unsynced = None

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        with self._lock:
            return [self._values.get(key) for key in keys]

    def scan(self, start: bytes, end: bytes, limit: int, *, is_reverse: bool) -> list[Row]:
        with self._lock:
            low, high = bisect_left(self._keys, start), bisect_left(self._keys, end)
            if is_reverse:
                keys = self._keys[max(low, high - limit) : high][::-1]
            else:
                keys = self._keys[low : min(high, low + limit)]
            return [(key, self._values[key]) for key in keys]

    def _apply(self, batch: Batch) -> None:
        for start, end in batch.clears:
            low, high = bisect_left(self._keys, start), bisect_left(self._keys, end)
            for key in self._keys[low:high]:
                del self._values[key]
            del self._keys[low:high]
        for key in batch.deletes:
            if self._values.pop(key, None) is not None:
                del self._keys[bisect_left(self._keys, key)]
        for key, value in batch.puts.items():
            if key not in self._values:
                insort(self._keys, key)
            self._values[key] = value
        assert len(self._keys) == len(self._values)

    def _assert_sorted(self) -> None:
        assert self._keys == sorted(self._values)


class MemoryEngine(EmbeddedEngine):
    """An engine in memory. Without a storage of its own choosing it forgets everything in the
    end."""

    def __init__(
        self, storage: MemoryStorage | None = None, *, limits: EngineLimits | None = None
    ) -> None:
        super().__init__(limits or EngineLimits())
        self.storage = storage or MemoryStorage()
        self._power_cut_count = self.storage.power_cut_count

    def power_cut(self, *, is_unsynced_kept: bool = False) -> MemoryEngine:
        """Cut the power; what comes up afterwards on the same storage."""
        self.storage.power_cut(is_unsynced_kept=is_unsynced_kept)
        self.close()
        return MemoryEngine(self.storage, limits=self.limits)

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        self._check_powered()
        return self.storage.get(keys)

    def scan(self, start: bytes, end: bytes, limit: int, *, is_reverse: bool = False) -> list[Row]:
        self._check_powered()
        assert limit > 0
        return self.storage.scan(start, end, limit, is_reverse=is_reverse)

    def _commit(self, batch: Batch) -> None:
        self._check_powered()
        self.storage.commit(batch)

    def export(self, start: bytes, end: bytes) -> Iterator[list[Row]]:
        self._check_powered()
        # Taken now, not at the first page: the export is of the moment of this call.
        rows = self.storage.scan(start, end, len(self.storage._keys) + 1, is_reverse=False)
        return (rows[at : at + PAGE_ROWS_MAX] for at in range(0, len(rows), PAGE_ROWS_MAX))

    def _check_powered(self) -> None:
        """A process without power does nothing, even if the simulation lets it run on."""
        if self._power_cut_count != self.storage.power_cut_count:
            raise EngineDamaged("the power of this engine was cut")
        assert not self._is_closed, "used after close"
