"""The command: `python -m tools.bench DIR [--against DIR2] [--rounds 3] [--json FILE]`."""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from tools.bench.workloads import WORKLOADS, ContentError, Sample, Scale

Samples = dict[str, list[Sample]]
"""Row → one sample per round."""


def measure(
    directories: list[Path], names: list[str], rounds: int, scale: Scale
) -> dict[Path, Samples]:
    """Run every workload in every directory, interleaved, `rounds` times. Raises ContentError."""
    assert rounds > 0
    console = Console(stderr=True)
    samples: dict[Path, Samples] = {directory: defaultdict(list) for directory in directories}
    for round_number in range(rounds):
        for name in names:
            for directory in directories:
                console.print(f"round {round_number + 1}/{rounds}: {name} in {directory}")
                _run_once(directory, name, scale, samples[directory])
    return samples


def _run_once(directory: Path, name: str, scale: Scale, samples: Samples) -> None:
    work = Path(tempfile.mkdtemp(prefix="bench-", dir=directory))
    try:
        for sample in WORKLOADS[name](work, scale):
            samples[sample.row].append(sample)
    finally:
        shutil.rmtree(work)


def summary(samples: dict[Path, Samples]) -> list[dict[str, object]]:
    """One dict per row: its unit and the median rate in every directory, in the order measured."""
    first = next(iter(samples.values()))
    rows: list[dict[str, object]] = []
    for row, of_first in first.items():
        rates = {
            str(directory): statistics.median(sample.rate for sample in by_row[row])
            for directory, by_row in samples.items()
        }
        rows.append({"row": row, "unit": of_first[0].unit, "median": rates})
    return rows


def _table(rows: list[dict[str, object]], directories: list[Path]) -> Table:
    table = Table("workload", "unit", *(str(directory) for directory in directories))
    if len(directories) == 2:
        table.add_column("ratio")
    for row in rows:
        rates = row["median"]
        assert isinstance(rates, dict)
        cells = [f"{rates[str(directory)]:,.4g}" for directory in directories]
        if len(directories) == 2:
            first, second = (rates[str(directory)] for directory in directories)
            cells.append(f"{first / second:.3f}")
        table.add_row(str(row["row"]), str(row["unit"]), *cells)
    return table


@click.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--against", type=click.Path(exists=True, file_okay=False, path_type=Path), help="second mount"
)
@click.option("--rounds", default=3, show_default=True, help="medians are over this many")
@click.option("--only", multiple=True, type=click.Choice(list(WORKLOADS)), help="these workloads")
@click.option("--quick", is_flag=True, help="a hundredth of the work: a first look")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="also write JSON here")
def main(
    directory: Path,
    against: Path | None,
    rounds: int,
    only: tuple[str, ...],
    quick: bool,
    json_file: Path | None,
) -> None:
    """Measure DIRECTORY (any mount point), beside another one if asked."""
    directories = [directory, against] if against else [directory]
    scale = Scale.quick() if quick else Scale.full()
    try:
        samples = measure(directories, list(only) or list(WORKLOADS), rounds, scale)
    except ContentError as error:
        click.echo(f"bench: {error}", err=True)
        sys.exit(1)
    rows = summary(samples)
    Console().print(_table(rows, directories))
    if json_file:
        machine = {"kernel": platform.release(), "cores": os.cpu_count(), "rounds": rounds}
        json_file.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main(prog_name="bench")
