"""The course of a run.

| act | what happens |
|---|---|
| a round | while everybody works: a fault strikes and is over; all get on; a look from outside |
| a check, every few rounds | all rest; the other mount shows what the models say; fsck reads all |
| the end | a check; then everything dies at once and comes back, and another check |
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import trio

from tests.chaos.faults import FAULTS, MAY_LOSE_SESSIONS, impossible
from tests.chaos.load import Journal, Load
from tests.simulation.world import Violation

if TYPE_CHECKING:
    from tests.chaos.cluster import Cluster

CHECK_EVERY = 5
CALM_S_MAX = 1.0


class Run:
    """Rounds of one seed on one cluster."""

    def __init__(self, cluster: Cluster, seed: int, faults: list[str]) -> None:
        self._cluster = cluster
        self._faults = [name for name in faults if not _is_left_out(name, cluster)]
        self._chooser = random.Random(f"{seed}/faults")
        self._journal = Journal(cluster.log_directory / "journal")
        self._load = Load(cluster.mounts, seed, self._journal)
        self._waiting: list[str] = []
        self.where = "the start"
        """For people: what goes on."""

    async def play(self, rounds: int) -> None:
        """Raises Violation and whatever else shows that something is wrong."""
        async with trio.open_nursery() as nursery:
            await self._cluster.start(nursery)
            for number in range(1, rounds + 1):
                if number % CHECK_EVERY == 1:
                    self._load.start(nursery)
                await self._round(number)
                if number % CHECK_EVERY == 0 or number == rounds:
                    await self._check(f"after round {number}")
            await self._end()
            nursery.cancel_scope.cancel()

    async def _round(self, number: int) -> None:
        name = self._next_fault()
        self.where = f"round {number}, {name}"
        self._journal.note(f"--- {self.where}")
        started_s, steps = time.monotonic(), self._load.steps_done
        await trio.sleep(self._chooser.uniform(0, CALM_S_MAX))
        lost_before = self._sessions_lost()
        victim = await FAULTS[name](self._cluster, self._chooser)
        self._journal.note(f"--- {name} of {victim} is over")
        await self._load.all_move()
        await self._load.look_at_one()
        if self._sessions_lost() != lost_before and name not in MAY_LOSE_SESSIONS:
            raise Violation(f"a session was lost by {name} of {victim}")
        took_s = time.monotonic() - started_s
        steps = self._load.steps_done - steps
        print(f"round {number:3}: {name:14} {victim:8} {steps:4} steps {took_s:6.1f} s", flush=True)

    def _sessions_lost(self) -> int:
        return sum(mount.lost_count for mount in self._cluster.mounts)

    def _next_fault(self) -> str:
        """Every kind once, in random order, then again."""
        if not self._waiting:
            self._waiting = list(self._faults)
            self._chooser.shuffle(self._waiting)
        return self._waiting.pop()

    async def _check(self, when: str) -> None:
        self.where = f"the check {when}"
        self._journal.note(f"--- {self.where}")
        started_s = time.monotonic()
        await self._load.rest()
        await self._load.look_at_all()
        await self._cluster.wait_servers_up()
        report = await self._cluster.fsck("--verify-data")
        if report["problems"]:
            raise Violation(f"fsck {when}: {report['problems'][:5]}")
        print(
            f"{when}: every promise kept; fsck: {report['inodes']} inodes, {report['blocks']} "
            f"blocks, {report['verified_copies']} copies verified, "
            f"{time.monotonic() - started_s:.1f} s",
            flush=True,
        )

    async def _end(self) -> None:
        """Everything dies at once; what is durable is what everyone was promised (I3)."""
        self.where = "the end, when everything was killed"
        async with trio.open_nursery() as nursery:
            for mount in self._cluster.mounts:
                nursery.start_soon(mount.kill)
            for part in [self._cluster.meta, *self._cluster.chunks]:
                nursery.start_soon(part.kill)
        await self._cluster.start_servers()
        for mount in self._cluster.mounts:
            await mount.start()
        await self._check("after everything was killed at once")
        for mount in self._cluster.mounts:
            await mount.stop()
        for part in [self._cluster.meta, *self._cluster.chunks]:
            await part.stop()


def _is_left_out(name: str, cluster: Cluster) -> bool:
    problem = impossible(name, cluster)
    if problem:
        print(f"chaos: {name} is left out: {problem}", flush=True)
    return bool(problem)
