"""Looks for the smallest scenario that still fails in the same way.

Delta debugging over the parts of a scenario: every reducer proposes smaller scenarios, the boldest
first, and the first that still fails takes the place of the one before. It ends when no reducer
finds a smaller one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.simulation.options import Options
    from tests.simulation.scenarios import Scenario

    FindFailing = Callable[[Scenario, Sequence[int]], int | None]
    """Which of the seeds fails in the same way; None when none does."""

SEEDS_PER_TRIAL = 6
"""Another composition takes another course, so a failure may need another seed."""
DURATION_S_MIN = 0.25
FAULT_LIMITS = (1, 2, 4, 8, 16)
STEP_LIMITS = (2, 8, 32, 128)

ASSIGNED = re.compile(r"\((?:[^()]|\([^()]*\))*=(?:[^()]|\([^()]*\))*\)")
"""The fields of a step, as in `Create(path=(b'a',), mode=420)`."""
NAMES = re.compile(r"b'[^']*'|\b0x\w+|\S+/\S+|(?!I\d\b)\b[\w.-]*\d[\w.-]*|(?<![\w'])\w(?![\w'])")
"""Bytes, paths, everything with a digit in it but an invariant, and single letters."""


FOUND_BY_FSCK = re.compile(r"\[Problem\(check='([^']*)'.*", re.DOTALL)


def problem_kind(problem: str) -> str:
    """What went wrong first, without what differs from run to run: names and numbers."""
    text = FOUND_BY_FSCK.sub(r"\1", problem).partition("; ")[0]
    return NAMES.sub("#", ASSIGNED.sub("(…)", text))


def shrink(
    scenario: Scenario, seed: int, find_failing: FindFailing, say: Callable[[str], None]
) -> tuple[Scenario, int]:
    """The smallest failing scenario that was found, and a seed with which it fails."""
    smallest = _Smallest(scenario, seed, find_failing, say)
    before = None
    while before != smallest.scenario:
        before = smallest.scenario
        for reducer in REDUCERS:
            smallest.reduce(reducer)
    return smallest.scenario, smallest.seed


@dataclass
class _Smallest:
    """The smallest failing scenario so far."""

    scenario: Scenario
    seed: int
    find_failing: FindFailing
    say: Callable[[str], None]
    _clean: set[bytes] = field(default_factory=set)
    """What was tried in vain."""

    def reduce(self, reducer: Reducer) -> None:
        """Apply one reducer for as long as it finds something."""
        candidates = reducer(self.scenario)
        while (candidate := next(candidates, None)) is not None:
            if self._fails(*candidate):
                candidates = reducer(self.scenario)

    def _fails(self, text: str, smaller: Scenario) -> bool:
        """Take it for the smallest if it fails."""
        key = msgspec.json.encode(smaller)
        if key in self._clean:
            return False
        found = self.find_failing(smaller, range(self.seed, self.seed + SEEDS_PER_TRIAL))
        self.say(f"{text}: {'clean' if found is None else f'seed {found} still fails'}")
        if found is None:
            self._clean.add(key)
            return False
        self.scenario, self.seed = smaller, found
        return True


# ── reducers: what is tried, and in words ────────────────────────────────────────────────────────

if TYPE_CHECKING:
    Candidates = Iterator[tuple[str, Scenario]]
    Reducer = Callable[[Scenario], Candidates]


def _shorter(scenario: Scenario) -> Candidates:
    for share in (0.25, 0.5, 0.75):
        duration_s = round(scenario.duration_s * share, 2)
        if duration_s >= DURATION_S_MIN:
            yield f"duration_s = {duration_s}", replace(scenario, duration_s=duration_s)


def _fewer_fault_kinds(scenario: Scenario) -> Candidates:
    for name in scenario.faults:
        yield f"no faults.{name}", replace(scenario, faults=_without(scenario.faults, name))


def _fewer_workload_kinds(scenario: Scenario) -> Candidates:
    for name in scenario.workloads if len(scenario.workloads) > 1 else ():
        rest = _without(scenario.workloads, name)
        yield f"no workloads.{name}", replace(scenario, workloads=rest)


def _fewer_clients(scenario: Scenario) -> Candidates:
    for count in _below(scenario.clients):
        yield f"clients = {count}", replace(scenario, clients=count)


def _fewer_objects(scenario: Scenario) -> Candidates:
    for name, options in scenario.workloads.items():
        for count in _below(getattr(options, "per_client", 1)):
            fewer = {**scenario.workloads, name: replace(options, per_client=count)}
            text = f"workloads.{name}.per_client = {count}"
            yield text, replace(scenario, workloads=fewer)


def _fewer_choices(scenario: Scenario) -> Candidates:
    """Of the victims of a fault, and the like: options that list what is chosen from."""
    for name, options in scenario.faults.items():
        for option, left_out in _choices(options):
            rest = tuple(each for each in getattr(options, option) if each != left_out)
            faults = {**scenario.faults, name: replace(options, **{option: rest})}
            yield f"faults.{name}.{option} without {left_out}", replace(scenario, faults=faults)


def _fewer_faults(scenario: Scenario) -> Candidates:
    for limit in _limits(scenario.fault_limit, FAULT_LIMITS) if scenario.faults else ():
        yield f"fault_limit = {limit}", replace(scenario, fault_limit=limit)


def _fewer_steps(scenario: Scenario) -> Candidates:
    for limit in _limits(scenario.step_limit, STEP_LIMITS):
        yield f"step_limit = {limit}", replace(scenario, step_limit=limit)


REDUCERS = (
    _shorter,
    _fewer_fault_kinds,
    _fewer_workload_kinds,
    _fewer_clients,
    _fewer_objects,
    _fewer_choices,
    _fewer_faults,
    _fewer_steps,
)


def _without(tables: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: options for key, options in tables.items() if key != name}


def _below(count: int) -> Sequence[int]:
    return sorted({1, count // 2, count * 3 // 4, count - 1} & set(range(1, count)))


def _limits(limit: int | None, first: Sequence[int]) -> Sequence[int]:
    return first if limit is None else _below(limit)


def _choices(options: Options) -> Iterator[tuple[str, object]]:
    for option in options.__struct_fields__:
        values = getattr(options, option)
        if isinstance(values, tuple) and len(values) > 1:
            yield from ((option, value) for value in values)
