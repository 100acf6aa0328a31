"""Whole clusters under faults, from seeds: replays are exact, old seeds stay clean, new ones are.

Runs are processes of their own with a fixed PYTHONHASHSEED. What fails here prints the command that
replays it: see docs/simulation.md.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.simulation.play import Run
from tests.simulation.scenario_files import scenario_names
from tests.simulation.worker_pool import WorkerPool, worker_command

TOP = Path(__file__).parents[2]
FRESH_SEEDS = 2
"""Of every scenario."""


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.simulation.run", *arguments]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    return subprocess.run(
        command, cwd=TOP, env=environment, capture_output=True, text=True, check=False, timeout=600
    )


def test_one_seed_gives_one_trace(tmp_path: Path) -> None:
    """Two processes, every packet, commit, sync and death compared byte by byte."""
    traces = []
    for number in range(2):
        path = tmp_path / f"trace{number}"
        ended = _run("--seed", "7", "--scenario", "everything", "--trace-file", str(path))
        assert ended.returncode == 0, ended.stdout + ended.stderr
        traces.append(path.read_text().splitlines())
    assert len(traces[0]) > 1000
    differing = [pair for pair in zip(*traces, strict=False) if pair[0] != pair[1]]
    assert not differing, f"first difference: {differing[0]}"
    assert len(traces[0]) == len(traces[1])


def test_a_run_does_not_depend_on_what_its_worker_played_before() -> None:
    """One worker; the same run first and third."""
    run, other = Run(3, "chaos", wants_digest=True), Run(1, "bad-disk")
    with WorkerPool(worker_command(), count=1) as pool:
        results = list(pool.play([run, other, run]))
    assert not any(result.problem for result in results)
    assert results[0].digest == results[2].digest != ""


def test_a_worker_that_dies_or_hangs_fails_its_own_run_only() -> None:
    """The first of three runs kills its worker, the second never ends; the third is played."""
    program = (
        "import os, sys, time\n"
        "for number, line in enumerate(sys.stdin.buffer):\n"
        "    if b'dies' in line: os._exit(7)\n"
        "    if b'hangs' in line: time.sleep(3600)\n"
        '    print(\'{"run": \' + line.decode().strip() + \', "problem": ""}\', flush=True)\n'
    )
    runs = [Run(1, "dies"), Run(2, "hangs"), Run(3, "fine")]
    with WorkerPool([sys.executable, "-c", program], count=1, run_s_max=2.0) as pool:
        problems = {result.run.scenario: result.problem for result in pool.play(runs)}
    assert problems["dies"] == "the worker ended with status 7"
    assert problems["hangs"].startswith("hangs")
    assert problems["fine"] == ""


def test_fresh_seeds_and_those_that_once_failed_are_clean() -> None:
    """seeds.txt, and a fixed share of every scenario; on all cores."""
    count = FRESH_SEEDS * len(scenario_names())
    ended = _run("--failed-once", "--seeds", str(count), "--scenario", "all")
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_a_deliberate_bug_fails_the_run_and_says_how_to_play_it_again() -> None:
    bug = "reference-counted-twice"
    ended = _run("--seed", "1", "--scenario", "garbage", "--bug", bug)
    assert ended.returncode == 1
    replay = f"python -m tests.simulation.run --seed 1 --scenario garbage --bug {bug} --trace"
    assert f"replay: {replay}" in ended.stdout
