"""`python -m tests.chaos`: real processes, real mounts, and whatever can go wrong with them.

Needs root. Exit status: 0 all is right, 1 something is not, 2 it cannot run here.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import random
import shutil
import signal
import sys
import tempfile
import traceback
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import trio

from dfs.background import LOG_VARIABLE, RUNTIME_VARIABLE
from tests.chaos.cluster import Cluster
from tests.chaos.enclosure import run_enclosed
from tests.chaos.faults import FAULTS
from tests.chaos.rounds import Run
from tests.chaos.spawner import Spawner
from tests.cluster.running import can_mount, quick_directory

if TYPE_CHECKING:
    from collections.abc import Sequence

SECONDS_TO_TAKE_DOWN = 60


class Plan(NamedTuple):
    """What to do, and where."""

    seed: int
    rounds: int
    faults: list[str]
    top: Path
    log_directory: Path


def main(arguments: Sequence[str]) -> int:
    """Play what the arguments say."""
    options = _parser().parse_args(arguments)
    if problem := can_mount():
        print(f"chaos: {problem}", file=sys.stderr)
        return 2
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    plan = Plan(
        seed=seed,
        rounds=options.rounds,
        faults=options.fault or list(FAULTS),
        top=Path(tempfile.mkdtemp(prefix="dfs-chaos-", dir=quick_directory())),
        log_directory=Path(tempfile.mkdtemp(prefix="dfs-chaos-log-")),
    )
    print(f"chaos: seed {seed}, {plan.rounds} rounds of {', '.join(plan.faults)}", flush=True)
    try:
        status = run_enclosed(partial(_play, plan))
    finally:
        shutil.rmtree(plan.top, ignore_errors=True)
    if status:
        print(f"chaos: failed; its logs are in {plan.log_directory}", file=sys.stderr)
        print(f"chaos: the same faults again: {_command(plan)}", file=sys.stderr)
        return 1
    print(f"chaos: {plan.rounds} rounds, all is right")
    if options.keep_logs:
        print(f"chaos: logs are in {plan.log_directory}")
    else:
        shutil.rmtree(plan.log_directory)
    return 0


def _command(plan: Plan) -> str:
    faults = "" if plan.faults == list(FAULTS) else "".join(f" --fault {f}" for f in plan.faults)
    return f"python -m tests.chaos --rounds {plan.rounds} --seed {plan.seed}{faults}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, help="chooses faults, victims and steps (random)")
    parser.add_argument(
        "--fault", choices=list(FAULTS), action="append", help="only this one (may be repeated)"
    )
    parser.add_argument("--keep-logs", action="store_true", help="also when all is right")
    return parser


def _play(plan: Plan) -> int:
    os.umask(0)
    os.environ.update(
        {RUNTIME_VARIABLE: str(plan.top / "run"), LOG_VARIABLE: str(plan.log_directory)}
    )
    faulthandler.enable()
    spawner = Spawner()
    return trio.run(_run, plan, spawner)


async def _run(plan: Plan, spawner: Spawner) -> int:
    cluster = Cluster(spawner, plan.top, plan.log_directory)
    run = Run(cluster, plan.seed, plan.faults)
    status = 1
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_obey_signals, nursery.cancel_scope)
            await run.play(plan.rounds)
            status = 0
            nursery.cancel_scope.cancel()
    except Exception as error:
        print(f"chaos: seed {plan.seed}, {run.where}:", file=sys.stderr)
        traceback.print_exception(error)
    finally:
        with trio.move_on_after(SECONDS_TO_TAKE_DOWN, shield=True):
            await cluster.destroy()
    return status


async def _obey_signals(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as arrivals:
        await anext(arrivals)
        print("chaos: told to end", file=sys.stderr)
        scope.cancel()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
