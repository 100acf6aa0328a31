"""Who works while things break: the workloads of the simulation, each on one of the mounts.

A worker outlives its clients. When one is lost (its mount was killed, or its session is over), the
worker goes on through the next, and first compares what is there with what was promised to it.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

from tests.chaos.conditions import becomes_true
from tests.chaos.mounted_client import ClientLost
from tests.simulation.checkers.history import History, check_history
from tests.simulation.scenarios import Scenario
from tests.simulation.workloads.contender import NAMES, ContenderOptions, make_contenders
from tests.simulation.workloads.slot_writer import SlotWriterOptions, make_slot_writers
from tests.simulation.workloads.workload import Shared, Site
from tests.simulation.workloads.writer import Writer, WriterOptions, make_writers
from tests.simulation.world import Violation

if TYPE_CHECKING:
    from pathlib import Path

    import trio

    from tests.chaos.mount import Mount
    from tests.simulation.workloads.workload import Workload

WRITERS_PER_MOUNT = 2
MOVE_PATIENCE_S = 90.0
"""In which every worker must get something done, when nothing is broken any more."""
STOP_PATIENCE_S = 180.0
SCENARIO = Scenario(name="chaos on mounts", may_lose_sessions=True)


class Journal:
    """What workers do, line by line: the trace of this run. A workload calls it `world.trace`."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", buffering=1)
        self._start_s = time.monotonic()

    def note(self, text: str) -> None:
        self._file.write(f"{time.monotonic() - self._start_s:9.3f} {text}\n")


class RealWorld:
    """All that a workload needs of a world; it stands in for one, as `MountedClient` does for a
    client."""

    def __init__(self, seed: int, journal: Journal) -> None:
        self.seed = str(seed)
        self.trace = journal


class Load:
    """All workers, and their lives."""

    def __init__(self, mounts: list[Mount], seed: int, journal: Journal) -> None:
        assert len(mounts) == SCENARIO.clients
        self._mounts = mounts
        self._journal = journal
        self._chooser = random.Random(f"{seed}/looks")
        self._shared = Shared()
        directory_count = ContenderOptions().directories
        self._shared.get(
            "history",
            lambda: History(len(NAMES), directory_count, is_behind_kernels=True),
            check_history,
        )
        world: Any = RealWorld(seed, journal)
        self._homes: dict[Workload, Mount] = {}
        self._at_work: set[Workload] = set()
        for number, mount in enumerate(mounts):
            site = Site(world, SCENARIO, number, self._shared)
            self._homes.update(dict.fromkeys(_workers_at(site), mount))

    @property
    def steps_done(self) -> int:
        return sum(worker.steps_done for worker in self._homes)

    def start(self, nursery: trio.Nursery) -> None:
        """Everyone works until `rest`."""
        assert not self._at_work
        for worker in self._homes:
            worker.is_stopping = False
            self._at_work.add(worker)
            nursery.start_soon(self._live, worker)

    async def _live(self, worker: Workload) -> None:
        lives_on = isinstance(worker, Writer)
        while worker in self._at_work:
            client: Any = await self._homes[worker].client(lives_on=lives_on)
            try:
                await worker.run(client)
            except ClientLost as error:
                self._journal.note(f"{worker.name} goes on elsewhere: {error}")
            else:
                self._at_work.discard(worker)
            await client.close()

    async def rest(self) -> None:
        """Let everyone end what is begun and close everything: it is durable then."""
        for worker in self._homes:
            worker.is_stopping = True
        if not await becomes_true(lambda: not self._at_work, STOP_PATIENCE_S):
            names = sorted(worker.name for worker in self._at_work)
            raise Violation(f"{', '.join(names)} cannot finish within {STOP_PATIENCE_S:g} s")

    async def all_move(self) -> None:
        """Return when every worker has got something done. Raises Violation when one hangs."""
        before = {worker: worker.steps_done for worker in self._homes}
        stuck = dict(before)

        def nobody_is_stuck() -> bool:
            for worker in list(stuck):
                if worker.steps_done > before[worker]:
                    del stuck[worker]
            return not stuck

        if not await becomes_true(nobody_is_stuck, MOVE_PATIENCE_S):
            names = sorted(worker.name for worker in stuck)
            raise Violation(f"{', '.join(names)} hang for {MOVE_PATIENCE_S:g} s")

    async def look_at_one(self) -> None:
        """One writer's directory, while it rests for a moment, through the other mount (I4)."""
        observable = [worker for worker in self._homes if worker.is_observable]
        await self._look(self._chooser.choice(observable))

    async def look_at_all(self) -> None:
        """What everyone did, through the other mount; nobody works meanwhile (I3, I4, I8)."""
        assert not self._at_work
        for worker in self._homes:
            await self._look(worker)
        problem = self._shared.problem()
        if problem:
            raise Violation(problem)

    async def _look(self, worker: Workload) -> None:
        home = self._homes[worker]
        [other] = [mount for mount in self._mounts if mount is not home]
        client: Any = await other.client(lives_on=False)
        await worker.check_seen_by(client)
        await client.close()


def _workers_at(site: Site) -> list[Workload]:
    return [
        *make_writers(site, WriterOptions(per_client=WRITERS_PER_MOUNT)),
        *make_slot_writers(site, SlotWriterOptions()),
        *make_contenders(site, ContenderOptions()),
    ]
