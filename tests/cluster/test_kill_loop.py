"""Goal: nothing that was synced is lost, whichever process dies when (I1, I3, I5, I6, I8).

Method: writers with an oracle work through the kernel mount while metadata server, chunk servers
and mount are killed with SIGKILL at random moments, 50 rounds and more; the cluster brings them
back. Then every promise is compared with what is there, and fsck reads every byte.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.cluster.load_worker import check

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster.conftest import Cluster

pytestmark = pytest.mark.cluster

ROUNDS = int(os.environ.get("DFS_KILL_ROUNDS", "51"))
WORKERS = 2
ERRORS_EXPECTED = {"ENOTCONN", "EIO", "ECONNABORTED", "ENODEV", "ENOENT", "EINTR", "ESTALE"}
"""What a writer may be told while the mount under it is dead or just came back."""


@pytest.fixture
def workers(cluster: Cluster, tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.cluster.load_worker",
                str(cluster.mountpoint / f"worker{seed}"),
                str(tmp_path / f"journal{seed}"),
                str(seed),
            ]
        )
        for seed in range(1, WORKERS + 1)
    ]
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def test_kill_nine_loses_nothing_synced(
    cluster: Cluster, workers: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    seed = int(os.environ.get("DFS_KILL_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
    print(f"seed: DFS_KILL_SEED={seed}")
    chooser = random.Random(seed)
    roles = ["meta", "chunk", "mount"]
    for round_number in range(ROUNDS):
        role = roles[round_number % 3]
        if role == "chunk":
            role = f"chunk-{chooser.randrange(3)}"
        time.sleep(chooser.uniform(0.05, 0.6))
        cluster.kill(role)
        cluster.wait_healthy(timeout_s=30)
        assert all(worker.poll() is None for worker in workers), f"a writer died after {role}"
    _stop(workers)
    for number in range(1, WORKERS + 1):
        journal = tmp_path / f"journal{number}"
        promises, broken = check(cluster.mountpoint / f"worker{number}", journal, number)
        assert not broken, f"seed {seed}: {broken}"
        assert promises > ROUNDS, f"only {promises} promises in {ROUNDS} rounds: no load"
        _assert_errors_name_causes(journal)
    cluster.fsck("--verify-data")


def _stop(workers: list[subprocess.Popen[bytes]]) -> None:
    for worker in workers:
        worker.send_signal(signal.SIGTERM)
    for worker in workers:
        assert worker.wait(timeout=60) == 0


def _assert_errors_name_causes(journal: Path) -> None:
    for line in journal.read_text().splitlines():
        if line.startswith("error"):
            name = line.split()[2]
            assert name in ERRORS_EXPECTED, f"unexpected error: {line}"
