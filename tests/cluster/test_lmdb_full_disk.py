"""The LMDB engine on a disk that runs full: an error that says so, no batch in part, no damage."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


def test_a_full_disk_refuses_batches_and_loses_none(tmp_path: Path) -> None:
    may_mount = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    if may_mount.returncode != 0:
        pytest.skip("needs a mount namespace of its own for a small tmpfs")
    command = ["unshare", "--mount", sys.executable, "-m", "tests.cluster.lmdb_filler"]
    result = subprocess.run(
        [*command, str(tmp_path)], cwd=PROJECT, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert list(tmp_path.iterdir()) == []
