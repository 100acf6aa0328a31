"""Goal: every command does what the design says on a real cluster, for people and for programs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from dfs.mountpoint import find_mount
from tests.cluster.running import Cluster, is_alive, run_dfs, running_cluster

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.cluster

MIB = 1 << 20


def test_up_again_does_nothing_new(cluster: Cluster) -> None:
    before = cluster.pids()
    assert set(before) == {"meta", "chunk-0", "chunk-1", "chunk-2", "mount"}
    said = cluster.dfs("up", "--dir", cluster.dir)
    assert "already running" in said
    document = json.loads(cluster.dfs("up", "--dir", cluster.dir, "--json"))
    assert document["is_new"] is False
    assert document["mountpoint"] == str(cluster.mountpoint)
    assert cluster.pids() == before


def test_status_for_people_and_programs(cluster: Cluster) -> None:
    for target in ([cluster.dir], [cluster.mountpoint], [cluster.address]):
        document = json.loads(cluster.dfs("status", *target, "--json"))
        assert document["health"]["is_healthy"]
        assert document["health"]["servers_up"] == 3
        assert len(document["status"]["sessions"]) == 1
    said = cluster.dfs("status", cluster.mountpoint)
    assert "healthy" in said
    assert "chunk-2" in said


def test_without_target_the_only_cluster_is_meant(cluster: Cluster) -> None:
    document = json.loads(cluster.dfs("status", "--json"))
    assert document["target"] == str(cluster.dir)


def test_status_of_a_degraded_cluster(cluster: Cluster) -> None:
    cluster.stop_process("chunk-1")
    deadline_s = time.monotonic() + 30
    while "1 of 3 chunk servers are down" not in run_dfs("status", cluster.dir).stdout:
        assert time.monotonic() < deadline_s
        time.sleep(0.2)
    assert run_dfs("status", cluster.dir).returncode == 1
    cluster.start_process("chunk-1")
    cluster.wait_healthy()
    cluster.dfs("status", cluster.dir)


def test_info_of_every_kind_of_inode(cluster: Cluster) -> None:
    top = cluster.mountpoint / "info"
    top.mkdir()
    (top / "large").write_bytes(os.urandom(3 * MIB + 5))
    (top / "small").write_bytes(b"inline")
    (top / "link").symlink_to("large")
    os.mkfifo(top / "fifo")
    large = json.loads(cluster.dfs("info", top / "large", "--json"))
    assert large["inode"]["size"] == 3 * MIB + 5
    assert large["extent_count"] == 4
    assert all(len(extent["servers"]) == 2 for extent in large["extents"])
    assert len(large["servers"]) == 3
    small = json.loads(cluster.dfs("info", top / "small", "--json"))
    assert small["extents"] == [{"offset": 0, "length": 6}]
    link = json.loads(cluster.dfs("info", top / "link", "--json"))
    assert link["inode"]["target"] == "large"
    for name in ("large", "small", "link", "fifo", "."):
        assert "inode" in cluster.dfs("info", top / name)


def test_fsck_of_a_live_cluster(cluster: Cluster) -> None:
    (cluster.mountpoint / "checked").write_bytes(os.urandom(2 * MIB))
    report = cluster.fsck("--verify-data")
    assert report["verified_copies"] >= 4
    assert report["problems"] == []
    said = cluster.dfs("fsck", cluster.mountpoint)
    assert said.splitlines()[-1] == "clean"


def test_bench_leaves_nothing_behind(cluster: Cluster) -> None:
    before = sorted(os.listdir(cluster.mountpoint))
    document = json.loads(cluster.dfs("bench", cluster.mountpoint, "--size", 4, "--json"))
    assert all(measure["per_second"] > 0 for measure in document["measures"])
    assert "read in sequence" in cluster.dfs("bench", cluster.mountpoint, "--size", 2)
    assert sorted(os.listdir(cluster.mountpoint)) == before


def test_down_and_up_keep_everything(fresh_cluster: Cluster) -> None:
    content = os.urandom(5 * MIB)
    (fresh_cluster.mountpoint / "kept").write_bytes(content)
    pids = fresh_cluster.pids()
    said = json.loads(fresh_cluster.dfs("down", "--dir", fresh_cluster.dir, "--json"))
    assert said == {"directory": str(fresh_cluster.dir), "was_running": True, "problems": []}
    assert find_mount(str(fresh_cluster.mountpoint)) is None
    for pid in pids.values():
        assert not is_alive(pid)
    assert os.listdir(fresh_cluster.mountpoint) == []
    assert "was not running" in fresh_cluster.dfs("down", "--dir", fresh_cluster.dir)
    # A stopped cluster can be checked, and stays stopped.
    assert fresh_cluster.fsck("--verify-data")["blocks"] > 0
    assert not fresh_cluster.directory.is_running
    fresh_cluster.up()
    assert (fresh_cluster.mountpoint / "kept").read_bytes() == content


def test_down_refuses_while_somebody_works_in_it(fresh_cluster: Cluster) -> None:
    inside = subprocess.Popen(
        [sys.executable, "-c", "input()"], cwd=fresh_cluster.mountpoint, stdin=subprocess.PIPE
    )
    try:
        said = run_dfs("down", "--dir", fresh_cluster.dir)
        assert said.returncode == 1
        assert f"({inside.pid})" in said.stderr
        assert fresh_cluster.directory.is_running
        fresh_cluster.dfs("down", "--dir", fresh_cluster.dir, "--lazy")
        assert not fresh_cluster.directory.is_running
    finally:
        inside.communicate()


def test_a_killed_supervisor_is_replaced_and_its_parts_taken_over(fresh_cluster: Cluster) -> None:
    before = fresh_cluster.pids()
    os.kill(fresh_cluster.supervisor_pid(), signal.SIGKILL)
    (fresh_cluster.mountpoint / "unaware").write_text("goes on")
    fresh_cluster.up()
    assert fresh_cluster.pids() == before
    fresh_cluster.kill("chunk-0")
    fresh_cluster.wait_healthy()
    assert fresh_cluster.pids()["chunk-0"] != before["chunk-0"]
    assert fresh_cluster.pids()["mount"] == before["mount"]
    os.kill(fresh_cluster.supervisor_pid(), signal.SIGKILL)
    fresh_cluster.down()
    assert not any(is_alive(pid) for pid in before.values())


def test_more_chunk_servers_later(tmp_path: Path) -> None:
    with running_cluster(chunk_servers=1, copies=1) as small:
        (small.mountpoint / "f").write_bytes(os.urandom(MIB))
        small.down()
        small.dfs("up", "--dir", small.dir, "--chunk-servers", 2)
        assert {"chunk-0", "chunk-1"} <= set(small.pids())
        assert len((small.mountpoint / "f").read_bytes()) == MIB
        small.fsck()


def test_a_directory_too_long_for_sockets() -> None:
    with running_cluster(chunk_servers=1, copies=1, depth=12) as deep:
        assert len(str(deep.dir)) > 120
        (deep.mountpoint / "f").write_text("deep")
        assert (deep.mountpoint / "f").read_text() == "deep"
        deep.fsck()
        deep.down()
