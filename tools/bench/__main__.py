"""The command: `python -m tools.bench TARGET [--against TARGET]... [--rounds 3] [--json FILE]`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from rich.console import Console

from tools.bench.measure import NAMES, Results, measure
from tools.bench.report import as_json, notes, table
from tools.bench.rivals.rival import RivalError
from tools.bench.targets import Target, TargetParameter, running_targets
from tools.bench.workloads import Scale

FILE_WIDTH = 200
"""A table that goes into a file or a pipe is not squeezed."""


@click.command()
@click.argument("target", type=TargetParameter())
@click.option(
    "--against", multiple=True, type=TargetParameter(), help="another one; may be given again"
)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="for medians")
@click.option("--only", multiple=True, type=click.Choice(NAMES), help="these workloads")
@click.option(
    "--copies",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="copies of everything, in what is started here",
)
@click.option("--quick", is_flag=True, help="a hundredth of the work: a first look")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="also write JSON here")
def main(
    target: str,
    against: tuple[str, ...],
    rounds: int,
    only: tuple[str, ...],
    copies: int,
    quick: bool,
    json_file: Path | None,
) -> None:
    """Measure TARGET, beside others if asked.

    A target is a directory (any mount point), or a name: dfs, moosefs, glusterfs, juicefs, cephfs.
    What is named is installed if it is missing, started on this machine, and stopped and removed
    afterwards; the installed packages stay. Needs root.
    """
    chosen = [target, *against]
    if len(set(chosen)) < len(chosen):
        raise click.UsageError("each target only once")
    names = only or NAMES
    say = Console(stderr=True, highlight=False, soft_wrap=True).print
    try:
        with running_targets(chosen, copies, say) as targets:
            if not targets:
                raise RivalError("nothing is left to measure")
            scale = Scale.quick() if quick else Scale.full()
            results = measure(targets, names, rounds, scale, say)
    except RivalError as error:
        click.echo(f"bench: {error}", err=True)
        sys.exit(1)
    _report(results, targets, names)
    if json_file:
        content = as_json(results, targets, copies)
        json_file.write_text(json.dumps(content, indent=1) + "\n")
    if any(not failure.is_rivals for failure in results.failures):
        sys.exit(1)


def _report(results: Results, targets: list[Target], names: tuple[str, ...]) -> None:
    is_piped = not sys.stdout.isatty()
    Console(width=FILE_WIDTH if is_piped else None).print(table(results, targets))
    for line in notes(results, targets, names):
        click.echo(f"bench: {line}", err=True)


if __name__ == "__main__":
    main(prog_name="bench")
