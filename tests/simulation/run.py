"""`python -m tests.simulation.run`: play seeds, say which fail, and how to see why.

Runs itself again with PYTHONHASHSEED=0 where that is not set: the order of sets of strings must not
differ from run to run. Exit status: 0 all seeds are clean, 1 one failed.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from tests.simulation.scenario_files import DEFAULT, scenario_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.simulation.simulator import Outcome

HASH_SEED = "0"
SEEDS_PATH = Path(__file__).with_name("seeds.txt")
HANGS_AFTER_S = 300
"""Real seconds after which a run prints every stack and ends."""
LINES_SHOWN = 40


def main(arguments: Sequence[str]) -> int:
    """Play what the arguments say."""
    options = _parser().parse_args(arguments)
    if os.environ.get("PYTHONHASHSEED") != HASH_SEED:
        environment = {**os.environ, "PYTHONHASHSEED": HASH_SEED}
        command = [sys.executable, "-m", "tests.simulation.run", *arguments]
        os.execve(sys.executable, command, environment)
    failed = 0
    started_s, virtual_s, count = time.monotonic(), 0.0, 0
    for seed, name in _chosen(options):
        outcome = _play(seed, name, options)
        virtual_s += outcome.virtual_s
        count += 1
        failed += bool(outcome.problem)
        if failed and not options.keep_going:
            break
    elapsed_s = time.monotonic() - started_s
    print(
        f"{count} runs, {failed} failed, {count * 60 / elapsed_s:.0f} per minute, "
        f"{virtual_s / 3600:.2f} simulated hours"
    )
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.run")
    parser.add_argument("--seed", type=int, help="play this seed (the first, with --seeds)")
    parser.add_argument("--seeds", type=int, default=1, help="how many, one after the other")
    parser.add_argument("--scenario", default=DEFAULT, help="a name, a TOML file, or all")
    parser.add_argument("--failed-once", action="store_true", help="play seeds.txt")
    parser.add_argument("--keep-going", action="store_true", help="go on after a failed seed")
    parser.add_argument("--trace", action="store_true", help="print everything that happens")
    parser.add_argument("--trace-file", type=Path, help="write everything that happens")
    return parser


def _chosen(options: argparse.Namespace) -> Iterator[tuple[int, str]]:
    """Seeds and scenarios to play, in order."""
    if options.failed_once:
        yield from failed_once()
        return
    names = scenario_names() if options.scenario == "all" else [options.scenario]
    first = options.seed if options.seed is not None else 1
    for seed in range(first, first + options.seeds):
        for name in names:
            yield seed, name


def failed_once() -> list[tuple[int, str]]:
    """What seeds.txt holds: lines of `seed scenario`, then what it found, for people."""
    lines = [line.split("#")[0].split() for line in SEEDS_PATH.read_text().splitlines()]
    return [(int(words[0]), words[1]) for words in lines if words]


def _play(seed: int, name: str, options: argparse.Namespace) -> Outcome:
    from tests.simulation.scenarios import load_scenario
    from tests.simulation.simulator import run

    faulthandler.dump_traceback_later(HANGS_AFTER_S, exit=True)
    started_s = time.monotonic()
    outcome = run(seed, load_scenario(name))
    faulthandler.cancel_dump_traceback_later()
    lines = outcome.trace.lines
    if options.trace:
        print("\n".join(lines))
    if options.trace_file is not None:
        outcome.trace.write(options.trace_file)
    verdict = "FAILED" if outcome.problem else "clean"
    print(
        f"seed {seed} {name}: {verdict}, {outcome.virtual_s:.0f} s in "
        f"{time.monotonic() - started_s:.1f} s, {len(lines)} events, {outcome.trace.digest()}",
        flush=True,
    )
    if outcome.problem:
        _explain(seed, name, outcome, is_traced=options.trace)
    return outcome


def _explain(seed: int, name: str, outcome: Outcome, *, is_traced: bool) -> None:
    if not is_traced:
        print("\n".join(outcome.trace.lines[-LINES_SHOWN:]))
    if outcome.error is not None:
        traceback.print_exception(outcome.error)
    print(outcome.problem)
    print(f"replay: python -m tests.simulation.run --seed {seed} --scenario {name} --trace")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
