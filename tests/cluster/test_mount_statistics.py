"""Goal: on a real mount `dfs stats` counts what programs did, also while no server answers, and
`dfs profile` finds where the time goes; neither is in the way.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.running import run_dfs

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.conftest import Cluster

pytestmark = pytest.mark.cluster

USER = 65534
FILES = 40
WAIT_S = 20


def looks(cluster: Cluster, *options: object) -> list[dict[str, Any]]:
    said = cluster.dfs("stats", cluster.mountpoint, "--json", *options)
    return [json.loads(line) for line in said.splitlines()]


def make_files(top: Path, count: int) -> None:
    top.mkdir()
    for number in range(count):
        (top / str(number)).write_bytes(os.urandom(10_000))
    for number in range(count):
        assert len((top / str(number)).read_bytes()) == 10_000


def test_what_programs_did_is_counted(cluster: Cluster) -> None:
    [before] = looks(cluster)
    make_files(cluster.mountpoint / "counted", FILES)
    [after] = looks(cluster)
    assert after["pid"] == before["pid"] == cluster.pids()["mount"]
    created = after["requests"]["create"]["count"] - before["requests"].get("create", {}).get(
        "count", 0
    )
    assert created == FILES
    ops = after["client"]["ops"]
    assert ops["done_here_count"] >= FILES / 2
    assert after["client"]["leases"]["exclusive_count"] >= FILES
    assert after["client"]["meta_calls"]["ApplyOps"]["answered_count"] > 0
    assert after["in_work_count"] == 0
    said = cluster.dfs("stats", cluster.mountpoint, "--interval", "0.2", "--count", "2")
    assert said.count("of a processor") == 3
    assert "since the mount began" in said
    assert f"process {after['pid']}" in cluster.dfs("stats", cluster.mountpoint / "counted" / "0")


def test_a_mount_tells_it_while_no_server_answers(cluster: Cluster) -> None:
    cluster.stop("meta")
    try:
        asking = subprocess.Popen(["df", cluster.mountpoint], stdout=subprocess.DEVNULL)
        deadline_s = time.monotonic() + WAIT_S
        while (now := looks(cluster)[0])["in_work_count"] == 0:
            assert time.monotonic() < deadline_s
        assert now["requests"]["statfs"]["in_work_count"] == 1
        assert asking.poll() is None
    finally:
        cluster.resume("meta")
    assert asking.wait(WAIT_S) == 0
    assert looks(cluster)[0]["in_work_count"] == 0


def test_a_profile_of_a_busy_mount(cluster: Cluster) -> None:
    answers: list[str] = []

    def profile() -> None:
        answers.append(cluster.dfs("profile", cluster.mountpoint, "--seconds", 2, "--json"))

    thread = threading.Thread(target=profile)
    thread.start()
    number = 0
    while thread.is_alive():
        make_files(cluster.mountpoint / f"profiled{number}", FILES)
        number += 1
    thread.join()
    document = json.loads(answers[0])
    assert abs(sum(document["parts"].values()) - 1) < 0.01
    assert {"client", "mount", "trio"} <= document["parts"].keys()
    assert document["look_count"] > 20
    assert any(one["place"].startswith("dfs/client/") for one in document["most_total"])
    idle = cluster.dfs("profile", cluster.mountpoint, "--seconds", 1)
    assert "waiting for requests" in idle


def test_only_root_and_the_owner_may_look(cluster: Cluster) -> None:
    program = (
        "import os, sys; os.setuid(int(sys.argv[2]))\n"
        "os.getxattr(sys.argv[1], 'system.dfs.stats')\n"
        "try: os.getxattr(sys.argv[1], 'system.dfs.profile.1')\n"
        "except PermissionError: sys.exit(77)"
    )
    command = [sys.executable, "-c", program, str(cluster.mountpoint), str(USER)]
    assert subprocess.run(command, cwd="/", check=False).returncode == 77


def test_elsewhere_is_refused_in_one_line(cluster: Cluster, tmp_path: Path) -> None:
    for command in ("stats", "profile"):
        done = run_dfs(command, tmp_path)
        assert done.returncode == 2
        assert "not on a dfs mount" in done.stderr
        assert done.stderr.count("\n") == 1
