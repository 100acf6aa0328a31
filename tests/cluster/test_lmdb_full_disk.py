"""The LMDB engine on a disk that runs full: an error that says so, no batch in part, no damage."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


def test_a_full_disk_refuses_batches_and_loses_none(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small tmpfs")
    command = ["unshare", "--mount", sys.executable, "-m", "tests.cluster.lmdb_filler"]
    result = subprocess.run(
        [*command, str(tmp_path)], cwd=PROJECT, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert list(tmp_path.iterdir()) == []
