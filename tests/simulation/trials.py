"""Shrinks a failing run by playing smaller ones in workers, and shows the smallest."""

from __future__ import annotations

import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from tests.simulation.play import Run
from tests.simulation.report import failure_text
from tests.simulation.scenarios import load_scenario, scenario_text
from tests.simulation.shrink import problem_kind, shrink

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.simulation.play import Result
    from tests.simulation.scenarios import Scenario
    from tests.simulation.worker_pool import WorkerPool

SHRUNK = Path("build", "shrunk")
"""Where the smallest scenario is written, under its old name: the name decides its course, too."""


def shrink_run(pool: WorkerPool, run: Run, *, s_max: float, bug: str) -> int:
    """Print the smallest scenario that was found in time, and how to play it. Returns the exit
    status: 1 for a run that fails, as ever."""
    [result] = pool.play([run])
    if not result.problem:
        print(f"seed {run.seed} {run.scenario} is clean: nothing to shrink")
        return 0
    kind = problem_kind(result.problem)
    print(f"looking for less that fails with: {kind}", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        trials = Trials(pool, kind, Path(directory), time.monotonic() + s_max)
        scenario, seed = shrink(load_scenario(run.scenario), run.seed, trials, _say)
    path = SHRUNK / f"{scenario.name}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(scenario_text(scenario, f"Seed {seed}: {kind}"))
    [smallest] = pool.play([Run(seed, str(path))])
    print(f"\n{path.read_text()}\n{failure_text(smallest, bug)}")
    return 1


@dataclass
class Trials:
    """Says which seed of a scenario fails with the same kind of problem; none when time is over."""

    pool: WorkerPool
    kind: str
    directory: Path
    end_s: float
    _numbers: Iterator[int] = field(default_factory=count)

    def __call__(self, scenario: Scenario, seeds: Sequence[int]) -> int | None:
        if time.monotonic() > self.end_s:
            return None
        path = self.directory / str(next(self._numbers)) / f"{scenario.name}.toml"
        path.parent.mkdir()
        path.write_text(scenario_text(scenario, "A trial."))
        with closing(self.pool.play(Run(seed, str(path)) for seed in seeds)) as results:
            return next((each.run.seed for each in results if self._is_same(each)), None)

    def _is_same(self, result: Result) -> bool:
        return bool(result.problem) and problem_kind(result.problem) == self.kind


def _say(text: str) -> None:
    print(f"  {text}", flush=True)
