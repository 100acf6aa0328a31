"""`python -m tests.simulation.prove`: every deliberate bug must be found by some run.

For each bug of `bugs/table.py` seeds are played over its scenarios in turn, in processes that know
no other bug, until a run fails. Exit status: 0 all were found, 1 one was not.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tests.simulation.bugs.bug import TOP
from tests.simulation.bugs.known import Known, read_known, write_known
from tests.simulation.bugs.table import BUGS
from tests.simulation.bugs.verdict import Verdict
from tests.simulation.worker_pool import HASH_SEED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.simulation.bugs.bug import Bug

RUNS_PER_PROCESS = 25


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
    verdict, count = Verdict(), 0
    runs = list(_runs(bug, run_count_max))
    while verdict.is_clean and count < len(runs):
        verdicts = play(bug.name, runs[count : count + RUNS_PER_PROCESS])
        verdict = verdicts[-1]
        count += len(verdicts)
        if verdict.is_found and not play("", [runs[count - 1]])[0].is_clean:
            print(f"{runs[count - 1]} fails without any bug", file=sys.stderr, flush=True)
            verdict = Verdict()
    scenario, seed = runs[count - 1]
    shown = f"{bug.name}: {verdict.how} in run {count} ({scenario} {seed}) {verdict.words}"
    print(shown, file=sys.stderr, flush=True)
    return Proof(
        bug.name,
        bug.invariant,
        verdict.is_found,
        scenario,
        seed,
        count,
        verdict.how,
        verdict.words,
    )


def _runs(bug: Bug, run_count_max: int) -> Iterator[tuple[str, int]]:
    """Scenarios in turn, seeds from 1."""
    for number in range(run_count_max):
        turn, place = divmod(number, len(bug.scenarios))
        yield bug.scenarios[place], turn + 1


def play(bug: str, runs: Sequence[tuple[str, int]]) -> list[Verdict]:
    """Runs in a process of its own, with the bug or (if it is "") with the product as it is; the
    first that is not clean is the last."""
    words = [str(word) for run in runs for word in run]
    command = [sys.executable, "-m", "tests.simulation.bugs.play", bug, *words]
    environment = {**os.environ, "PYTHONHASHSEED": HASH_SEED}
    ended = subprocess.run(command, cwd=TOP, env=environment, capture_output=True, check=False)
    verdicts = [msgspec.json.decode(line, type=Verdict) for line in ended.stdout.splitlines()]
    if ended.returncode:
        errors = ended.stderr.decode(errors="replace").strip().splitlines()
        verdicts.append(Verdict("broken", errors[-1] if errors else "the process died"))
    return verdicts


def _remember(proofs: Sequence[Proof]) -> None:
    known = read_known()
    for proof in proofs:
        known.pop(proof.bug, None)
        if proof.is_found:
            known[proof.bug] = Known(proof.bug, proof.scenario, proof.seed, proof.words)
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
