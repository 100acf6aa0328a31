"""What a workload is, and what most of them have in common.

A workload's object works through one client at a time and outlives it: when the client dies, `run`
is cancelled, and called again with the next client. It keeps its own model of what must be there.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

    from dfs.client.client import Client
    from tests.simulation.scenarios import Scenario
    from tests.simulation.world import World

T = TypeVar("T")


class Workload(Protocol):
    """One object of a workload, which does one step after the other."""

    name: str
    """Different from every other's. It is in the trace and in the seed of its dice."""
    steps_done: int
    is_stopping: bool
    """Set when it shall end what it does, close everything, and return from `run`."""
    is_observable: bool
    """`check_seen_by` may be called while it works, too."""

    async def run(self, client: Client) -> None:
        """Work through this client until told to stop. Raises Violation."""

    async def check_seen_by(self, client: Client) -> None:
        """Raises Violation if another client does not find what this workload knows."""


class Shared:
    """What the workloads of all clients share, such as one history."""

    def __init__(self) -> None:
        self._objects: dict[str, object] = {}
        self._checks: dict[str, Callable[[], str]] = {}

    def get(self, name: str, make: Callable[[], T], check: Callable[[T], str]) -> T:
        """The object of that name, made when it is first asked for. When the run is over `check`
        says, once, what is wrong with it; empty when nothing is."""
        if name not in self._objects:
            made = make()
            self._objects[name] = made
            self._checks[name] = lambda: check(made)
        found: T = self._objects[name]  # type: ignore[assignment]
        return found

    def problem(self) -> str:
        """What is wrong with the first that is not right; empty when all are."""
        found = ((name, check()) for name, check in self._checks.items())
        return next((f"{name}: {problem}" for name, problem in found if problem), "")


@dataclass(frozen=True)
class Site:
    """Where objects of a workload are made: for which client of which run."""

    world: World
    scenario: Scenario
    client_number: int
    shared: Shared

    def numbers(self, per_client: int) -> range:
        """Numbers for this client's objects that no other client's objects have."""
        return range(self.client_number * per_client, (self.client_number + 1) * per_client)


class Stepper:
    """What most workloads begin with: a name, dice of their own, pauses, a limit of steps."""

    is_observable = False

    def __init__(self, site: Site, name: str, pause_s: float) -> None:
        self.name = name
        self.steps_done = 0
        self.is_stopping = False
        self._world = site.world
        self._random = random.Random(f"{site.world.seed}/{name}")
        self._pause_s = pause_s
        self._step_limit = site.scenario.step_limit

    async def _think(self) -> None:
        """The pause before a step."""
        await trio.sleep(self._random.expovariate(1 / self._pause_s))

    def _count_step(self) -> None:
        """Call it after each step; the scenario may say that it was the last one."""
        self.steps_done += 1
        if self.steps_done == self._step_limit:
            self.is_stopping = True

    def _note(self, text: str) -> None:
        self._world.trace.note(f"{self.name}: {text}")
