"""`python -m tests.simulation.run`: play seeds, say which fail, and how to see why.

One run is played here, and can be traced; many are played by a worker on each core. Runs itself
again with PYTHONHASHSEED=0 where that is not set: the order of sets of strings must not differ from
run to run. Exit status: 0 all seeds are clean, 1 one failed, 2 it was asked for what there is not.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tests.simulation.play import Run, play, prepare
from tests.simulation.report import Summary, failure_text, lines_of, watch
from tests.simulation.scenario_files import DEFAULT, scenario_names
from tests.simulation.worker_pool import HASH_SEED, RUN_S_MAX, WorkerPool, worker_command

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SHRINK_S_MAX = 600.0
SEEDS_PATH = Path(__file__).with_name("seeds.txt")


def main(arguments: Sequence[str]) -> int:
    """Play what the arguments say."""
    options = _parser().parse_args(arguments)
    if os.environ.get("PYTHONHASHSEED") != HASH_SEED:
        environment = {**os.environ, "PYTHONHASHSEED": HASH_SEED}
        command = [sys.executable, "-m", "tests.simulation.run", *arguments]
        os.execve(sys.executable, command, environment)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    runs = list(_chosen(options))
    prepare(options.bug)
    problem = _scenario_problem(runs)
    if problem:
        print(problem, file=sys.stderr)
        return 2
    if options.shrink:
        return _shrink(runs, options)
    if len(runs) == 1 and options.json is None:
        return _play_one(runs[0], options)
    return _play_all(runs, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.run")
    parser.add_argument("--seed", type=int, default=1, help="the seed, or the first of many")
    parser.add_argument("--seeds", type=int, help="how many runs in all, dealt to the scenarios")
    parser.add_argument("--scenario", help="names or TOML files, by commas, or all")
    parser.add_argument("--failed-once", action="store_true", help="play what is in seeds.txt, too")
    parser.add_argument("--fail-fast", action="store_true", help="end with the first failure")
    parser.add_argument("--jobs", type=int, help="workers; one for each core if not given")
    parser.add_argument("--run-s-max", type=float, default=RUN_S_MAX, help="longer is a failure")
    parser.add_argument("--json", type=Path, help="write the sums and failures to this file, too")
    parser.add_argument("--trace", action="store_true", help="print everything that happens")
    parser.add_argument("--trace-file", type=Path, help="write everything that happens")
    parser.add_argument("--who", default="", help="print only what this process or workload does")
    parser.add_argument("--shrink", action="store_true", help="look for a smaller run that fails")
    parser.add_argument("--shrink-s-max", type=float, default=SHRINK_S_MAX, help="and stop then")
    parser.add_argument("--bug", default="", help="put this bug of bugs.py into the product")
    return parser


def _chosen(options: argparse.Namespace) -> Iterator[Run]:
    """Everything to play, in order."""
    if options.failed_once:
        yield from failed_once()
        if options.seeds is None:
            return
    names = _names(options)
    for number in range(len(names) if options.seeds is None else options.seeds):
        yield Run(options.seed + number // len(names), names[number % len(names)])


def _names(options: argparse.Namespace) -> list[str]:
    """Many runs are of all scenarios, one is of the default, unless it is said otherwise."""
    scenario: str = options.scenario or (DEFAULT if options.seeds is None else "all")
    return scenario_names() if scenario == "all" else scenario.split(",")


def failed_once() -> list[Run]:
    """What seeds.txt holds: lines of `seed scenario`, then what it found, for people."""
    lines = [line.split("#")[0].split() for line in SEEDS_PATH.read_text().splitlines()]
    return [Run(int(words[0]), words[1]) for words in lines if words]


def _scenario_problem(runs: Sequence[Run]) -> str:
    """Why a scenario cannot be played; empty when all can."""
    from tests.simulation.scenarios import ScenarioError, load_scenario

    try:
        for name in dict.fromkeys(run.scenario for run in runs):
            load_scenario(name)
    except ScenarioError as error:
        return str(error)
    return ""


def _play_one(run: Run, options: argparse.Namespace) -> int:
    faulthandler.dump_traceback_later(options.run_s_max, exit=True)
    result, outcome = play(msgspec.structs.replace(run, wants_digest=True), options.bug)
    faulthandler.cancel_dump_traceback_later()
    if options.trace:
        print("\n".join(lines_of(outcome.trace.lines, options.who)))
    if options.trace_file is not None:
        outcome.trace.write(options.trace_file)
    if result.problem and not options.trace:
        print("\n".join(result.last_lines))
    print(
        f"seed {run.seed} {run.scenario}: {'FAILED' if result.problem else 'clean'}, "
        f"{result.virtual_s:.0f} s in {result.real_s:.1f} s, {result.event_count} events, "
        f"{result.digest}"
    )
    if result.problem:
        print(failure_text(result, options.bug))
    return 1 if result.problem else 0


def _shrink(runs: Sequence[Run], options: argparse.Namespace) -> int:
    from tests.simulation.trials import shrink_run

    if len(runs) != 1:
        print("--shrink takes one seed of one scenario", file=sys.stderr)
        return 2
    command = worker_command(options.bug)
    with WorkerPool(command, count=options.jobs, run_s_max=options.run_s_max) as pool:
        try:
            return shrink_run(pool, runs[0], s_max=options.shrink_s_max, bug=options.bug)
        except KeyboardInterrupt:
            print("interrupted")
            return 130


def _play_all(runs: Sequence[Run], options: argparse.Namespace) -> int:
    summary = Summary(options.bug)
    command = worker_command(options.bug)
    status = 0
    with WorkerPool(command, count=options.jobs, run_s_max=options.run_s_max) as pool:
        try:
            for result in watch(pool.play(runs), summary, len(runs)):
                status = 1 if result.problem else status
                if status and options.fail_fast:
                    break
        except KeyboardInterrupt:
            print("interrupted")
            status = 130
    print(summary.table())
    print(summary.line())
    if options.json is not None:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(summary.as_json())))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
