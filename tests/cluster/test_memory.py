"""Goal: memory stays bounded however much data goes through: under 300 MiB for every process.

Method: stream a file of `DFS_MEMORY_GIB` (1; 8 for the documented figure) through a mount and read
it back, while the resident size of mount and servers is sampled.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cluster.conftest import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

MIB = 1 << 20
PIECES = int(float(os.environ.get("DFS_MEMORY_GIB", "1")) * 1024)
RESIDENT_BYTES_MAX = 300 * MIB


def resident_bytes(pid: int) -> int:
    """Resident set of a process (proc(5), VmRSS)."""
    with open(f"/proc/{pid}/status") as status:
        for line in status:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    raise AssertionError(f"no VmRSS for {pid}")


def test_resident_memory_is_bounded(cluster: Cluster) -> None:
    base = bytearray(random.Random(1).randbytes(MIB))
    peak: dict[str, int] = {}

    def piece(number: int) -> bytearray:
        base[:8] = number.to_bytes(8, "big")
        return base

    def sample(number: int) -> None:
        if number % 64 == 0:
            for role, pid in cluster.pids().items():
                peak[role] = max(peak.get(role, 0), resident_bytes(pid))

    path = cluster.mountpoint / "stream"
    with open(path, "wb", buffering=0) as file:
        for number in range(PIECES):
            assert file.write(piece(number)) == MIB
            sample(number)
        os.fsync(file.fileno())
    with open(path, "rb", buffering=0) as file:
        for number in range(PIECES):
            assert file.read(MIB) == piece(number), f"MiB {number}"
            sample(number)
    path.unlink()
    print({role: f"{size / MIB:.0f} MiB" for role, size in peak.items()})
    assert all(size < RESIDENT_BYTES_MAX for size in peak.values()), peak
