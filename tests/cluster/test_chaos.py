"""Goal: whatever goes wrong with real processes, networks and disks, one thing at a time, only the
victim's own users notice, and nothing that was synced is lost (I1 to I8).

Method: `python -m tests.chaos` plays each kind of fault once, with a seed that its output names
(DFS_CHAOS_SEED repeats it); and one run is told to end in the middle, and must leave nothing.
"""

from __future__ import annotations

import faulthandler
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.running import can_mount

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

TOP = Path(__file__).parent.parent.parent
FAULTS = (
    *("kill-meta", "kill-chunk", "kill-mount", "pause-chunk", "lose-session"),
    *("full-disk", "flip-bytes", "cut-chunk", "cut-client"),
)


def start(*arguments: str, place: Path) -> subprocess.Popen[str]:
    if problem := can_mount():
        pytest.skip(problem)
    return subprocess.Popen(
        [sys.executable, "-m", "tests.chaos", *arguments],
        cwd=TOP,
        env={**os.environ, "TMPDIR": str(place)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_each_kind_of_fault_once(tmp_path: Path) -> None:
    faulthandler.cancel_dump_traceback_later()  # the run itself says what hangs
    seed = os.environ.get("DFS_CHAOS_SEED") or str(random.SystemRandom().randrange(1 << 32))
    faults = [word for name in FAULTS for word in ("--fault", name)]
    run = start("--rounds", str(len(FAULTS)), "--seed", seed, *faults, place=tmp_path)
    try:
        said, _ = run.communicate()
    finally:
        run.terminate()
        run.wait()
    print(said)
    assert run.returncode == 0, f"DFS_CHAOS_SEED={seed} repeats it"
    assert not list(tmp_path.iterdir())


def test_a_run_that_is_told_to_end_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DFS_TEST_DIR", str(tmp_path))
    run = start("--rounds", "1000", "--fault", "kill-chunk", place=tmp_path)
    assert run.stdout is not None
    while "round   1" not in (line := run.stdout.readline()):
        assert line, "it ended before the first round did"
    run.send_signal(signal.SIGTERM)
    said, _ = run.communicate()
    assert run.returncode == 1
    assert "told to end" in said
    [logs] = tmp_path.iterdir()
    assert "meta.log" in os.listdir(logs)
    assert not processes_that_name(tmp_path)
    backing = [path.read_text() for path in Path("/sys/block").glob("loop*/loop/backing_file")]
    assert not [path for path in backing if str(tmp_path) in path]


def processes_that_name(path: Path) -> list[bytes]:
    lines = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(entry.read_bytes())
        except OSError:
            continue
    return [line for line in lines if os.fsencode(path) in line]
