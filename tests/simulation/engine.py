"""The engines of the simulation: the product's memory engine on a storage that outlives processes.

Faults injected here: a process may be armed to die at an operation (`Process.operation`): before a
commit, between its write and its sync (then the batch is there wholly or not at all), or after it
and before anybody hears of it. Commits take milliseconds, now and then much longer, and seconds
while the disk is slow (`slow_s`); reads are quick, but for those that find nothing in the cache.
The outcome of a commit may be lost (`unknown_chance`).
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from dfs.engine.api import Conflict, Engine, Unknown
from dfs.engine.memory_engine import MemoryEngine, MemoryStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from dfs.engine.api import Row
    from dfs.engine.embedded import Batch
    from tests.simulation.process import Process
    from tests.simulation.trace import Trace

COMMIT_S = 0.002
SLOW_COMMIT_CHANCE = 0.02
SLOW_COMMIT_S = 0.3
READ_S = 20e-6
SLOW_READ_CHANCE = 0.02
SLOW_READ_S = 0.05


class SimStorage(MemoryStorage):
    """What lies on a machine's disk, and who watches batches as they land on it."""

    def __init__(self, host: str, seed: str, trace: Trace) -> None:
        super().__init__(before_sync=self._between)
        self.host = host
        self.random = random.Random(f"{seed}/engine/{host}")
        self.trace = trace
        self.committer: Process | None = None
        """Whose commit is under way."""
        self.observers: list[Callable[[Process, Batch], None]] = []
        """Called with every batch when it is durable."""
        self.slow_s = 0.0
        """Mean time that every commit takes beyond what is usual."""
        self.unknown_chance = 0.0
        """How often nobody hears whether a commit happened."""

    def lose_process(self) -> None:
        """The process that used it is dead: a commit under way may have happened."""
        self.power_cut(is_unsynced_kept=self.random.random() < 0.5)

    def rows(self) -> list[Row]:
        """Everything, in order of key."""
        return self.scan(b"", b"\xff" * 500, len(self._keys) + 1, is_reverse=False)

    def _between(self) -> None:
        assert self.committer is not None
        self.committer.operation()

    def _apply(self, batch: Batch) -> None:
        super()._apply(batch)
        assert self.committer is not None
        shown = f"{len(batch.puts)} puts, {len(batch.deletes) + len(batch.clears)} deletes"
        self.trace.note(f"commits to {self.host}: {shown}", who=self.committer.name)
        for observe in self.observers:
            observe(self.committer, batch)


class SimEngine(Engine):
    """One process's way to a storage."""

    def __init__(self, storage: SimStorage, process: Process) -> None:
        self._engine = MemoryEngine(storage)
        self._storage = storage
        self._process = process
        self.limits = self._engine.limits

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        self._read()
        return self._engine.get(keys)

    def scan(self, start: bytes, end: bytes, limit: int, *, is_reverse: bool = False) -> list[Row]:
        self._read()
        return self._engine.scan(start, end, limit, is_reverse=is_reverse)

    def commit(
        self,
        checks: Mapping[bytes, bytes | None],
        puts: Mapping[bytes, bytes],
        deletes: Iterable[bytes] = (),
        clears: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        self._process.operation()
        self._storage.committer = self._process
        is_heard = self._storage.random.random() >= self._storage.unknown_chance
        if not is_heard and self._storage.random.random() < 0.5:
            raise Unknown("the simulation lost a commit")
        try:
            self._engine.commit(checks, puts, deletes, clears)
        except Conflict as error:
            self._storage.trace.note(f"commit refused: {error}", who=self._process.name)
            raise
        chooser = self._storage.random
        self._process.charge(chooser.expovariate(1 / (COMMIT_S + self._storage.slow_s)))
        if chooser.random() < SLOW_COMMIT_CHANCE:
            self._process.charge(chooser.uniform(0, SLOW_COMMIT_S))
        self._process.operation()
        if not is_heard:
            raise Unknown("the simulation lost the answer of a commit")

    def wait(self, key: bytes, seen: bytes | None, timeout_s: float) -> bytes | None:
        """At once: nothing here may wait for the real clock."""
        self._read()
        self._process.charge(timeout_s)
        return self._engine.get([key])[0]

    def export(self, start: bytes, end: bytes) -> Iterator[list[Row]]:
        self._read()
        return self._engine.export(start, end)

    def close(self) -> None:
        self._engine.close()

    def _read(self) -> None:
        self._process.check_alive()
        self._process.charge(READ_S)
        if self._storage.random.random() < SLOW_READ_CHANCE:
            self._process.charge(self._storage.random.uniform(0, SLOW_READ_S))
