"""The run that is known to find each bug: kept in `known.txt`, written by `prove --update`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.simulation.play import Run

if TYPE_CHECKING:
    from collections.abc import Iterable

PATH = Path(__file__).with_name("known.txt")
HEAD = (
    "# `bug scenario seed  # what was said`; `python -m tests.simulation.prove --update` writes it."
)


class Known(NamedTuple):
    """A run that finds a bug."""

    bug: str
    run: Run
    words: str


def read_known() -> dict[str, Known]:
    """By the bug's name, in the file's order."""
    lines = PATH.read_text("utf-8").splitlines() if PATH.exists() else []
    found = {}
    for line in lines:
        fields, _, words = line.partition("#")
        if fields.strip():
            bug, scenario, seed = fields.split()
            found[bug] = Known(bug, Run(int(seed), scenario), words.strip())
    return found


def write_known(known: Iterable[Known]) -> None:
    lines = [f"{each.bug} {each.run.scenario} {each.run.seed}  # {each.words}" for each in known]
    PATH.write_text("\n".join([HEAD, *lines]) + "\n", "utf-8")
