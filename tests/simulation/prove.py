"""`python -m tests.simulation.prove`: every deliberate bug must be found by some run.

For each bug of `bugs/table.py` seeds are played over its scenarios in turn, in workers that know
no other bug, until a run fails. Exit status: 0 all were found, 1 one was not.
"""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tests.simulation.bugs.known import Known, read_known, write_known
from tests.simulation.bugs.table import BUGS
from tests.simulation.bugs.verdict import Verdict
from tests.simulation.play import Run
from tests.simulation.worker_pool import WorkerPool, worker_command

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.simulation.bugs.bug import Bug


class Proof(msgspec.Struct, frozen=True):
    """What looking for one bug came to."""

    bug: str
    invariant: str
    is_found: bool
    scenario: str
    """Of the run that found it, or of the last one."""
    seed: int
    run_count: int
    how: str
    words: str


def main(arguments: Sequence[str]) -> int:
    """Look for the bugs that the arguments say."""
    options = _parser().parse_args(arguments)
    bugs = [BUGS[name] for name in options.bug or BUGS]
    with ThreadPoolExecutor(options.jobs) as pool:
        proofs = list(pool.map(lambda bug: _prove(bug, options.seeds), bugs))
    if options.json is not None:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(proofs)))
    if options.update:
        _remember(proofs)
    print("\n".join(_markdown(proofs) if options.markdown else _table(proofs)))
    return 0 if all(proof.is_found for proof in proofs) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.prove")
    parser.add_argument("--bug", nargs="+", choices=[*BUGS], metavar="NAME", help="only these")
    parser.add_argument("--seeds", type=int, default=500, help="runs per bug at most")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at once")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the result")
    parser.add_argument("--markdown", action="store_true", help="print it for docs/simulation.md")
    parser.add_argument(
        "--update", action="store_true", help="let the tests play what was found from now on"
    )
    return parser


def _prove(bug: Bug, run_count_max: int) -> Proof:
    verdict, run, count = Verdict(), Run(0, ""), 0
    for run, verdict in _verdicts(bug, run_count_max):
        count += 1
        if verdict.is_found and not play(run).is_clean:
            print(f"{run} fails without any bug", file=sys.stderr, flush=True)
            verdict = Verdict()
        if not verdict.is_clean:
            break
    shown = f"{bug.name}: {verdict.how} in run {count} ({run.scenario} {run.seed}) {verdict.words}"
    print(shown, file=sys.stderr, flush=True)
    return Proof(
        bug.name,
        bug.invariant,
        verdict.is_found,
        run.scenario,
        run.seed,
        count,
        verdict.how,
        verdict.words,
    )


def _verdicts(bug: Bug, run_count_max: int) -> Iterator[tuple[Run, Verdict]]:
    """Run after run, in a worker that knows no other bug: scenarios in turn, seeds from 1."""
    runs = (
        Run(number // len(bug.scenarios) + 1, bug.scenarios[number % len(bug.scenarios)])
        for number in range(run_count_max)
    )
    with WorkerPool(worker_command(bug.name), count=1) as pool:
        yield from ((result.run, result.verdict) for result in pool.play(runs))


def play(run: Run, bug: str = "") -> Verdict:
    """One run in a process of its own, with the bug or with the product as it is."""
    with WorkerPool(worker_command(bug), count=1) as pool:
        [result] = pool.play([run])
    return result.verdict


def _remember(proofs: Sequence[Proof]) -> None:
    known = read_known()
    for proof in proofs:
        known.pop(proof.bug, None)
        if proof.is_found:
            known[proof.bug] = Known(proof.bug, Run(proof.seed, proof.scenario), proof.words)
    write_known([known[name] for name in BUGS if name in known])


def _table(proofs: Sequence[Proof]) -> Iterator[str]:
    width = max(len(proof.bug) for proof in proofs)
    for proof in proofs:
        where = f"{proof.scenario} {proof.seed}"
        yield (
            f"{proof.bug:{width}}  {proof.invariant}  {where:16}  {proof.run_count:3}  "
            f"{proof.how:10}  {proof.words}"
        )
    yield f"{sum(proof.is_found for proof in proofs)} of {len(proofs)} bugs were found"


def _markdown(proofs: Sequence[Proof]) -> Iterator[str]:
    yield "| bug | breaks | | found by | runs | what was said |"
    yield "|---|---|---|---|---|---|"
    for proof in proofs:
        where = f"`{proof.scenario}` {proof.seed}" if proof.is_found else "–"
        words = proof.words.replace("|", "\\|")
        yield (
            f"| `{proof.bug}` | {BUGS[proof.bug].breaks} | {proof.invariant} | {where} | "
            f"{proof.run_count} | {proof.how}: {words} |"
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
