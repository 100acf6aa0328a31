"""What was measured, as a table for people and as JSON."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING

from rich.table import Table

from tools.bench.measure import SHARED, Results, summary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tools.bench.targets import Target

LESS = "↓"
FAILED = "failed"
NOTHING = "–"


def table(results: Results, targets: Sequence[Target]) -> Table:
    """Medians by row; beside the first target's, its ratio to each of the others."""
    first, *others = [target.name for target in targets]
    ratios = ["ratio"] if len(others) == 1 else [f"{first} / {other}" for other in others]
    rows = summary(results, targets)
    is_explained = any(row["less_is_better"] for row in rows)
    made = Table(caption=f"{LESS} less is better, in the ratio too" if is_explained else None)
    for heading in ("workload", "unit", first, *others, *ratios):
        made.add_column(heading, justify="left" if heading in ("workload", "unit") else "right")
    for row in rows:
        medians = row["median"]
        assert isinstance(medians, dict)
        cells = [_cell(results, str(row["workload"]), name, medians[name]) for name in medians]
        ratio_cells = [_ratio(medians[first], medians[other]) for other in others]
        unit = f"{row['unit']} {LESS}" if row["less_is_better"] else str(row["unit"])
        made.add_row(str(row["row"]), unit, *cells, *ratio_cells)
    return made


def _cell(results: Results, workload: str, target: str, median: float | None) -> str:
    if median is not None:
        return f"{median:,.4g}"
    return FAILED if results.has_failed(target, workload) else NOTHING


def _ratio(first: float | None, second: float | None) -> str:
    if first is None or not second:
        return NOTHING
    return f"{first / second:.3f}"


def notes(results: Results, targets: Sequence[Target], names: Sequence[str]) -> list[str]:
    """One line for each failure, and for each target that a workload is not for."""
    skipped = [target.name for target in targets if SHARED in names and not target.is_started]
    lines = [
        f"{name}: {SHARED} skipped, it needs two mounts of what is started" for name in skipped
    ]
    return [*lines, *dict.fromkeys(str(failure) for failure in results.failures)]


def as_json(results: Results, targets: Sequence[Target], copies: int) -> Mapping[str, object]:
    """Everything that the table shows, and what it was measured on."""
    machine = {"kernel": platform.release(), "cores": os.cpu_count(), "rounds": results.rounds}
    failures = [
        {"target": one.target, "workload": one.workload, "message": one.message}
        for one in results.failures
    ]
    copies_of = {target.name: copies for target in targets if target.is_started}
    rows = summary(results, targets)
    return {"machine": machine, "copies": copies_of, "rows": rows, "failures": failures}
