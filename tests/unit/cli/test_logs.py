"""Goal: what stays in the background logs with time, level and place."""

from __future__ import annotations

import subprocess
import sys

from dfs.background import dfs_environment

PROGRAM = "from dfs.cli.logs import log_to_stderr as l; import logging; l(); logging.info('hi')"


def test_one_line_per_event() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=dfs_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.endswith("INFO root: hi\n")
    assert done.stderr.startswith("20")
