"""Plays one run in this process. Knows the product only from `prepare` on."""

from __future__ import annotations

import time
import traceback
from typing import TYPE_CHECKING

import msgspec

from tests.simulation.bugs.install import check_installed, install
from tests.simulation.bugs.table import BUGS
from tests.simulation.bugs.verdict import Verdict, verdict_on

if TYPE_CHECKING:
    from tests.simulation.simulator import Outcome

LINES_KEPT = 40


class Run(msgspec.Struct, frozen=True):
    """What decides everything: a seed, and a scenario by its name or the path of its file."""

    seed: int
    scenario: str
    wants_digest: bool = False
    """Of the whole trace, which has to be put into words for it."""


class Result(msgspec.Struct, frozen=True):
    """How a run ended. `problem` is empty when every check held."""

    run: Run
    problem: str
    verdict: Verdict = Verdict()
    virtual_s: float = 0.0
    real_s: float = 0.0
    event_count: int = 0
    digest: str = ""
    details: str = ""
    """Of a failure, for people: its traceback."""
    last_lines: list[str] = []
    """Of a failure: the end of the trace."""


def prepare(bug: str) -> None:
    """Call it before `play`, and before anything imports the product. A bug by name is put into
    the product: what is played then must find it."""
    if bug:
        install(BUGS[bug])


def play(run: Run, bug: str = "") -> tuple[Result, Outcome]:
    """Play it. Raises ScenarioError when there is no such scenario, RuntimeError when the bug that
    was prepared is in nothing that was imported."""
    from tests.simulation import simulator
    from tests.simulation.scenarios import load_scenario

    scenario = load_scenario(run.scenario)
    started_s = time.monotonic()
    outcome = simulator.run(run.seed, scenario)
    if bug:
        check_installed(BUGS[bug])
    details = ""
    if outcome.error is not None:
        details = "".join(traceback.format_exception(outcome.error))
    result = Result(
        run,
        outcome.problem,
        verdict_on(outcome.problem, outcome.error),
        virtual_s=outcome.virtual_s,
        real_s=time.monotonic() - started_s,
        event_count=len(outcome.trace),
        digest=outcome.trace.digest() if run.wants_digest else "",
        details=details,
        last_lines=outcome.trace.lines[-LINES_KEPT:] if outcome.problem else [],
    )
    return result, outcome
