"""The world of one run: machines, their processes, the network, and what went wrong first."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import trio

from dfs.errors import DfsError, leaves_of
from tests.simulation.disk import Platter
from tests.simulation.engine import SimStorage
from tests.simulation.fault_points import FaultPoints
from tests.simulation.network import SimNetwork
from tests.simulation.process import Process, describe_error
from tests.simulation.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


SUPERVISOR_S = 1.0


class Violation(AssertionError):
    """An invariant is broken, or an application was told what it must not be told."""


class Machine:
    """A host with a disk. Runs one process at a time, and keeps what outlives it."""

    def __init__(self, world: World, host: str, main: Callable[[Process], Awaitable[None]]) -> None:
        self.host = host
        self.platter = Platter(host, world.seed, world.trace)
        self.storage = SimStorage(host, world.seed, world.trace)
        self.process: Process | None = None
        self.clock_offset_ns = 0
        self.has_bad_disk = False
        """Its process may end with a DfsError, and is started again then."""
        self._world = world
        self._main = main
        self._start_count = 0
        self._storage_count = 0

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.is_alive

    def start(self) -> Process:
        """Begin a new process; the machine has power again if it had none."""
        assert not self.is_running
        world = self._world
        world.network.power_on(self.host)
        self._start_count += 1
        name = f"{self.host}.{self._start_count}"
        process = Process(
            name, self.host, world.network, world.seed, world.trace, world.fault_points
        )
        process.clock_offset_ns = self.clock_offset_ns
        self.process = process
        world.nursery.start_soon(self._run, process)
        return process

    async def _run(self, process: Process) -> None:
        await process.run(self._main)
        if process.failure is None:
            return
        if self.process is not process and _is_all_dfs(process.failure):
            self._world.trace.note("was replaced, and has noticed", who=process.name)
            return
        if self.has_bad_disk and _is_all_dfs(process.failure):
            await trio.sleep(SUPERVISOR_S)
            if not self.is_running and self.process is process:
                self.start()
        else:
            self._world.fail(process.failure, f"{process.name} ended by itself")

    def kill(self) -> None:
        """SIGKILL: what was written stays written, synced or not."""
        if self.process is not None and self.process.is_alive:
            self.process.kill()
            self.storage.lose_process()

    def cut_power(self) -> None:
        """The machine is dark: unsynced writes are lost, and nobody is told."""
        if self.process is not None and self.process.is_alive:
            self.process.kill(is_silent=True)
            self.storage.lose_process()
        self.platter.power_cut()

    def lose_storage(self) -> None:
        """What the engine kept is gone, as after damage to its files."""
        assert not self.is_running
        self._storage_count += 1
        seed = f"{self._world.seed}/{self._storage_count}"
        self.storage = SimStorage(self.host, seed, self._world.trace)
        self._world.trace.note("the engine's files are lost", who=self.host)

    def freeze_and_replace(self) -> Process:
        """Freeze the process, and start another one in its place. Returns the frozen one."""
        frozen = self.process
        assert frozen is not None
        frozen.freeze()
        self._world.network.take_listeners(frozen)
        self._world.replaced.append(frozen)
        self.process = None
        self.start()
        return frozen

    def arm(self, moment: str, count: int, *, is_power_cut: bool) -> None:
        """Die at the `count`-th such moment from now (`doom.py`)."""
        assert self.process is not None
        self.process.arm(moment, count, self.cut_power if is_power_cut else self.kill)

    def set_clock(self, offset_ns: int) -> None:
        """Let its wall clock be wrong by this much."""
        self.clock_offset_ns = offset_ns
        if self.process is not None:
            self.process.clock_offset_ns = offset_ns

    def slow_disk(self, seconds: float) -> None:
        """Let every operation of its disk take about this much longer; 0: not any more."""
        self.platter.slow_s = self.storage.slow_s = seconds


def _is_all_dfs(error: BaseException) -> bool:
    return all(isinstance(leaf, DfsError) for leaf in leaves_of(error))


class World:
    """Everything that one seed makes."""

    def __init__(self, seed: int | str, nursery: trio.Nursery) -> None:
        self.seed = str(seed)
        self.trace = Trace()
        self.network = SimNetwork(self.seed, self.trace)
        self.nursery = nursery
        self.fault_points = FaultPoints(self.seed)
        self.random = random.Random(f"{seed}/world")
        self.machines: dict[str, Machine] = {}
        self.replaced: list[Process] = []
        """Frozen once, and another process took their place: they may do nothing any more (I7)."""
        self.problem: str = ""
        """What went wrong first; empty while nothing has."""
        self.error: BaseException | None = None
        self.has_failed = trio.Event()

    def add(self, host: str, main: Callable[[Process], Awaitable[None]]) -> Machine:
        assert host not in self.machines
        machine = self.machines[host] = Machine(self, host, main)
        return machine

    def fail(self, error: BaseException, what: str) -> None:
        """Note the first failure; the run ends with it."""
        if not self.problem:
            self.problem = f"{what}: {describe_error(error)}"
            self.error = error
            self.trace.note(f"FAILED {self.problem}", who="world")
            self.has_failed.set()
