"""The LMDB engine under kill -9, at random moments: what was acknowledged is there, whole (I3).

After each kill the store is opened again and compared, row by row, with what it must hold after the
last batch: the fence says which one that is.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

from dfs.engine.api import EngineBusy
from tests.cluster.lmdb_committer import open_engine, read_fence, state_after

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).parents[2]
ROUNDS = 50
EARLY_ROUNDS = 15


@contextmanager
def committer(directory: Path) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """A committing process and what it reports; it has been told "opening"."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.cluster.lmdb_committer", str(directory)],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"opening\n"
        yield process, process.stdout
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def run_and_kill(directory: Path, chooser: random.Random, acknowledged: int) -> int:
    """The number of the last batch that was reported when the process was killed, a moment after it
    had reported `acknowledged` of them."""
    last = 0
    with committer(directory) as (process, reports):
        for _ in range(acknowledged):
            last = int(reports.readline())
        time.sleep(chooser.random() * 0.004)
        process.kill()
        # What it had written into the pipe was acknowledged too.
        for line in reports.read().splitlines(keepends=True):
            if line.endswith(b"\n"):
                last = int(line)
    return last


def check_store(directory: Path, acknowledged: int, kills: int) -> int:
    """Open the store again and compare all of it. The number of the last batch there."""
    engine = open_engine(str(directory))
    shard_epoch, number = read_fence(engine)
    assert acknowledged <= number <= acknowledged + 1
    assert shard_epoch <= kills
    rows = {key: value for page in engine.export(b"batch", b"batci") for key, value in page}
    assert rows == state_after(number)
    engine.close()
    return number


def test_acknowledged_batches_survive_kill_9(tmp_path: Path) -> None:
    chooser = random.Random(time.time_ns())
    acknowledged = 0
    for round_number in range(1, ROUNDS + 1):
        count = chooser.choice([0, 1, 2, chooser.randrange(80)])
        acknowledged = max(run_and_kill(tmp_path, chooser, count), acknowledged)
        acknowledged = check_store(tmp_path, acknowledged, round_number)
    assert acknowledged > ROUNDS
    assert (tmp_path / "data.mdb").stat().st_size > 256 * 1024


def test_a_store_killed_while_it_is_made_is_made_again(tmp_path: Path) -> None:
    chooser = random.Random(time.time_ns())
    for round_number in range(EARLY_ROUNDS):
        directory = tmp_path / str(round_number)
        last = run_and_kill(directory, chooser, 0)
        check_store(directory, last, 1)


def test_a_store_in_use_is_refused_until_its_process_is_killed(tmp_path: Path) -> None:
    with committer(tmp_path) as (process, reports):
        reports.readline()
        with pytest.raises(EngineBusy, match=f"in use by process {process.pid};"):
            open_engine(str(tmp_path))
        process.kill()
        process.wait()
        open_engine(str(tmp_path)).close()
