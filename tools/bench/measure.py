"""Runs workloads on targets in turn, and keeps what they gave: figures, failures, what was skipped.

A workload that fails on one target ends neither the run nor the rounds that follow.
"""

from __future__ import annotations

import shutil
import sqlite3
import statistics
import subprocess
import tempfile
import threading
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tools.bench.rivals.mounts import abort
from tools.bench.shared import Figure, shared, wait_until_seen
from tools.bench.workloads import WORKLOADS, ContentError, Sample, Scale

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tools.bench.targets import Target

SHARED = "shared"
NAMES = (*WORKLOADS, SHARED)
WORKLOAD_PATIENCE_S = 1800.0
_FAILURES = (ContentError, OSError, subprocess.SubprocessError, sqlite3.Error)


@dataclass(frozen=True)
class Failure:
    """A workload that did not get to its end."""

    target: str
    workload: str
    message: str
    is_rivals: bool
    """It is a rival's, so it is a result."""

    def __str__(self) -> str:
        return f"{self.target}: {self.workload} failed: {self.message}"


@dataclass
class Results:
    """What was measured so far; a row belongs to the workload that gave it first."""

    rounds: int
    workload_of: dict[str, str] = field(default_factory=dict)
    samples: dict[tuple[str, str], list[Sample | Figure]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """(target, row) → one per round."""
    failures: list[Failure] = field(default_factory=list)

    def add(self, target: str, workload: str, sample: Sample | Figure) -> None:
        self.workload_of.setdefault(sample.row, workload)
        self.samples[target, sample.row].append(sample)

    def has_failed(self, target: str, workload: str) -> bool:
        return any(one.target == target and one.workload == workload for one in self.failures)


def measure(
    targets: Sequence[Target],
    names: Sequence[str],
    rounds: int,
    scale: Scale,
    say: Callable[[str], None],
) -> Results:
    """Run every workload on every target, interleaved, `rounds` times."""
    assert rounds > 0
    results = Results(rounds)
    for round_number in range(rounds):
        for name in names:
            for target in targets:
                if name == SHARED and not target.is_started:
                    continue
                say(f"round {round_number + 1}/{rounds}: {name} in {target.name}")
                _run_once(target, name, scale, results)
    return results


def _run_once(target: Target, name: str, scale: Scale, results: Results) -> None:
    with _limited(target):
        try:
            work = Path(tempfile.mkdtemp(prefix="bench-", dir=target.mountpoints[0]))
            try:
                for sample in _samples(target, name, work, scale):
                    results.add(target.name, name, sample)
            finally:
                shutil.rmtree(work)
        except _FAILURES as error:
            message = " ".join(str(error).split())
            results.failures.append(Failure(target.name, name, message, target.is_rival))


def _samples(
    target: Target, name: str, work: Path, scale: Scale
) -> Iterator[Sample] | Iterator[Figure]:
    if name != SHARED:
        return WORKLOADS[name](work, scale)
    other = target.mountpoints[1] / work.name
    wait_until_seen(other)
    return shared(work, other, scale)


@contextmanager
def _limited(target: Target) -> Iterator[None]:
    """What hangs in a mount that was made for this run gets an error after a long while."""

    def give_up() -> None:
        for mountpoint in target.mountpoints:
            abort(mountpoint)

    timer = threading.Timer(WORKLOAD_PATIENCE_S, give_up)
    if target.is_started:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def summary(results: Results, targets: Sequence[Target]) -> list[dict[str, object]]:
    """One dict per row: its unit and every target's median, None where it failed or was skipped.

    Rows are in the order of their workloads, then as they came.
    """
    order = list(NAMES)
    rows = sorted(results.workload_of, key=lambda row: order.index(results.workload_of[row]))
    return [_row(results, row, targets) for row in rows]


def _row(results: Results, row: str, targets: Sequence[Target]) -> dict[str, object]:
    one = next(samples[0] for (_, name), samples in results.samples.items() if name == row)
    return {
        "row": row,
        "workload": results.workload_of[row],
        "unit": one.unit,
        "less_is_better": one.is_less_better,
        "median": {target.name: _median(results, row, target) for target in targets},
    }


def _median(results: Results, row: str, target: Target) -> float | None:
    """None unless every round gave it: what survived of some says nothing about the others."""
    samples = results.samples.get((target.name, row), [])
    if len(samples) < results.rounds:
        return None
    return statistics.median(sample.value for sample in samples)
