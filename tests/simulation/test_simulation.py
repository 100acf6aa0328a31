"""Whole clusters under faults, from seeds: replays are exact, old seeds stay clean, new ones are.

Runs are processes of their own with a fixed PYTHONHASHSEED. What fails here prints the command that
replays it: see docs/simulation.md.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.run import failed_once
from tests.simulation.scenario_files import scenario_names

TOP = Path(__file__).parents[2]
FRESH_SEEDS = 1


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.simulation.run", *arguments]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    return subprocess.run(
        command, cwd=TOP, env=environment, capture_output=True, text=True, check=False, timeout=300
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


@pytest.mark.parametrize("name", scenario_names())
def test_fresh_seeds_are_clean(name: str) -> None:
    """A fixed share of every scenario."""
    ended = _run("--seed", "1", "--seeds", str(FRESH_SEEDS), "--scenario", name)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_seeds_that_once_failed_are_clean() -> None:
    """seeds.txt, and the scenarios it names exist."""
    assert all(name in scenario_names() for _, name in failed_once())
    ended = _run("--failed-once")
    assert ended.returncode == 0, ended.stdout + ended.stderr
