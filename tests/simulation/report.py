"""What many runs came to: how far they are while they go on, every failure as it happens, and the
sums in the end."""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.simulation.play import Result, Run

SAY_EVERY_S = 10.0


def replay_command(run: Run, bug: str = "") -> str:
    """The one command that plays it again, and shows everything that happens."""
    bug_words = ["--bug", bug] if bug else []
    words = ["--seed", str(run.seed), "--scenario", run.scenario, *bug_words, "--trace"]
    return shlex.join(["python", "-m", "tests.simulation.run", *words])


@dataclass
class Count:
    """Of one scenario."""

    runs: int = 0
    failed: int = 0
    real_s: float = 0.0
    virtual_s: float = 0.0


@dataclass
class Summary:
    """Sums over all results so far."""

    bug: str = ""
    by_scenario: dict[str, Count] = field(default_factory=dict)
    failures: list[Result] = field(default_factory=list)
    started_s: float = field(default_factory=time.monotonic)

    def add(self, result: Result) -> None:
        count = self.by_scenario.setdefault(result.run.scenario, Count())
        count.runs += 1
        count.real_s += result.real_s
        count.virtual_s += result.virtual_s
        if result.problem:
            count.failed += 1
            self.failures.append(result)

    @property
    def total(self) -> Count:
        counts = list(self.by_scenario.values())
        return Count(
            sum(each.runs for each in counts),
            sum(each.failed for each in counts),
            sum(each.real_s for each in counts),
            sum(each.virtual_s for each in counts),
        )

    def line(self) -> str:
        """All in one line."""
        total = self.total
        return (
            f"{total.runs} runs, {total.failed} failed, {self._per_minute():.0f} seeds per minute, "
            f"{total.virtual_s / 3600:.2f} simulated hours"
        )

    def table(self) -> str:
        """A line for every scenario."""
        width = max((len(name) for name in self.by_scenario), default=0)
        lines = [f"{'scenario':{width}}   runs failed  s/run"] + [
            f"{name:{width}} {each.runs:6} {each.failed:6} {each.real_s / each.runs:6.1f}"
            for name, each in sorted(self.by_scenario.items())
        ]
        return "\n".join(lines)

    def as_json(self) -> dict[str, object]:
        total = self.total
        return {
            "runs": total.runs,
            "failed": total.failed,
            "elapsed_s": self._elapsed_s(),
            "seeds_per_minute": self._per_minute(),
            "simulated_hours": total.virtual_s / 3600,
            "scenarios": self.by_scenario,
            "failures": [
                {"replay": replay_command(each.run, self.bug), "result": each}
                for each in self.failures
            ],
        }

    def _elapsed_s(self) -> float:
        return time.monotonic() - self.started_s

    def _per_minute(self) -> float:
        return self.total.runs * 60 / max(self._elapsed_s(), 1e-3)


def failure_text(result: Result, bug: str = "") -> str:
    """What broke, and how to see it again."""
    run = result.run
    return (
        f"FAILED seed {run.seed} {run.scenario}: {result.problem}\n{result.details}"
        f"replay: {replay_command(run, bug)}"
    )


def lines_of(lines: Iterable[str], who: str) -> Iterator[str]:
    """Lines of a trace that a process, host or workload with this name begins; all if empty."""
    for line in lines:
        # The time, the process, and perhaps the workload within it.
        if not who or any(word.startswith(who) for word in line.split(maxsplit=3)[1:3]):
            yield line


def watch(results: Iterable[Result], summary: Summary, run_count: int) -> Iterator[Result]:
    """Hand results on, count them, print failures, and show how far it is: in a line that changes
    on a terminal, else in a new line now and then."""
    console = Console(soft_wrap=True)
    if not console.is_terminal:
        yield from _watch_plainly(results, summary, run_count)
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        task = progress.add_task("", total=run_count)
        for result in _counted(results, summary, lambda text: console.out(text, highlight=False)):
            progress.update(task, advance=1, description=summary.line().partition(", ")[2])
            yield result


def _watch_plainly(results: Iterable[Result], summary: Summary, run_count: int) -> Iterator[Result]:
    said_s = time.monotonic()
    for result in _counted(results, summary, _say):
        if time.monotonic() - said_s >= SAY_EVERY_S:
            said_s = time.monotonic()
            _say(f"… of {run_count}: {summary.line()}")
        yield result


def _counted(
    results: Iterable[Result], summary: Summary, say: Callable[[str], None]
) -> Iterator[Result]:
    for result in results:
        summary.add(result)
        if result.problem:
            say(failure_text(result, summary.bug))
        yield result


def _say(text: str) -> None:
    print(text, flush=True)
