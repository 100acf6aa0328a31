"""What the engines that live inside one process share: limits, the shape of a batch, and `wait`.

All writers of such an engine are in this process, so a commit can wake those who wait for a key.
"""

from __future__ import annotations

import threading
import time
from abc import abstractmethod
from bisect import bisect_left
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from dfs.engine.api import Engine, EngineLimits, TooLarge

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PAGE_ROWS_MAX = 1000
"""Rows of one page of an export."""


class Batch(NamedTuple):
    """What one commit checks and writes."""

    checks: dict[bytes, bytes | None]
    puts: dict[bytes, bytes]
    deletes: frozenset[bytes]
    clears: tuple[tuple[bytes, bytes], ...]


def checked_batch(batch: Batch, limits: EngineLimits) -> Batch:
    """The batch itself. Raises TooLarge; asserts that no key is written in two ways."""
    for key in (*batch.checks, *batch.puts, *batch.deletes):
        assert key
        if len(key) > limits.key_bytes_max:
            raise TooLarge(f"a key has {len(key)} bytes, at most {limits.key_bytes_max}")
    value_bytes = [len(value) for value in batch.puts.values()]
    if max(value_bytes, default=0) > limits.value_bytes_max:
        raise TooLarge(f"a value has {max(value_bytes)} bytes, at most {limits.value_bytes_max}")
    batch_bytes = sum(value_bytes) + sum(map(len, batch.puts)) + sum(map(len, batch.deletes))
    if batch_bytes > limits.batch_bytes_max:
        raise TooLarge(f"a batch has {batch_bytes} bytes, at most {limits.batch_bytes_max}")
    record_count = len(batch.puts) + len(batch.deletes) + len(batch.clears)
    if record_count > limits.batch_records_max:
        raise TooLarge(f"a batch has {record_count} records, at most {limits.batch_records_max}")
    _assert_disjoint(batch)
    return batch


def _assert_disjoint(batch: Batch) -> None:
    assert batch.deletes.isdisjoint(batch.puts)
    if not batch.clears:
        return
    written = sorted([*batch.puts, *batch.deletes])
    clears = sorted(batch.clears)
    for start, end in clears:
        assert start <= end
        assert bisect_left(written, start) == bisect_left(written, end), "written and cleared"
    for (_, end), (start, _) in pairwise(clears):
        assert end <= start, "cleared twice"


class EmbeddedEngine(Engine):
    """An engine whose writers are all in this process. Subclasses write `_commit`."""

    def __init__(self, limits: EngineLimits) -> None:
        self.limits = limits
        self._has_committed = threading.Condition()
        self._is_closed = False

    @abstractmethod
    def _commit(self, batch: Batch) -> None:
        """Do what `commit` says with a batch that is within the limits."""

    def commit(
        self,
        checks: Mapping[bytes, bytes | None],
        puts: Mapping[bytes, bytes],
        deletes: Iterable[bytes] = (),
        clears: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        batch = Batch(dict(checks), dict(puts), frozenset(deletes), tuple(clears))
        self._commit(checked_batch(batch, self.limits))
        with self._has_committed:
            self._has_committed.notify_all()

    def wait(self, key: bytes, seen: bytes | None, timeout_s: float) -> bytes | None:
        deadline_s = time.monotonic() + timeout_s
        # Held while looking, so that a commit cannot slip in between looking and sleeping.
        with self._has_committed:
            while True:
                [value] = self.get([key])
                left_s = deadline_s - time.monotonic()
                if value != seen or left_s <= 0:
                    return value
                self._has_committed.wait(left_s)
                if self._is_closed:
                    return seen

    def close(self) -> None:
        with self._has_committed:
            self._is_closed = True
            self._has_committed.notify_all()
