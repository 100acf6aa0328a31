"""I7: who lost the shard commits nothing.

Watches every batch that becomes durable. The fence must go (e, n) → (e, n + 1) by the owner of e,
or (e, n) → (e + 1, n) by a new owner; a batch without the fence is not checked by it and is wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfs.core.namespace.keys import FENCE_KEY
from dfs.core.namespace.records import Fence, decode_record

if TYPE_CHECKING:
    from collections.abc import Callable

    from dfs.engine.embedded import Batch
    from tests.simulation.process import Process


class FencingChecker:
    """Watches the batches of one shard (I7). Tells `report` what is wrong."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._fence: Fence | None = None
        self._owner = ""

    def observe(self, process: Process, batch: Batch) -> None:
        value = batch.puts.get(FENCE_KEY)
        if value is None:
            self._report(f"{process.name} committed without the fence")
            return
        fence, before = decode_record(Fence, value), self._fence
        self._fence = fence
        if before is None or fence == Fence(before.shard_epoch + 1, before.batch_number):
            self._owner = process.name
        elif fence != Fence(before.shard_epoch, before.batch_number + 1):
            self._report(f"{process.name} moved the fence from {before} to {fence}")
        elif process.name != self._owner:
            self._report(f"{process.name} committed as {fence}, which {self._owner} owns")
