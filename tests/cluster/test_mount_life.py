"""Goal: mounts come, share, die and go without losing what was promised (I3, I4).

Method: several mounts of one cluster, by every way there is to make one, ended by every way there
is to end one.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dfs.mountpoint import find_mount, is_stale, take_off
from tests.cluster.running import is_alive, run_dfs, write_synced

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.conftest import Cluster

pytestmark = pytest.mark.cluster

MIB = 1 << 20
HELPER = Path("/sbin/mount.dfs")


@pytest.fixture
def second(cluster: Cluster) -> Iterator[Path]:
    """A directory for a second mount, free again afterwards."""
    place = cluster.dir.parent / "m2"
    place.mkdir()
    yield place
    while find_mount(str(place)):
        with contextlib.suppress(OSError):
            pid = mount_pid(place)
            os.kill(pid, signal.SIGKILL)
        take_off(str(place), is_lazy=True)
    place.rmdir()


def mount_pid(place: Path) -> int:
    answer = json.loads(os.getxattr(place, "user.dfs.mount"))
    assert answer["mountpoint"] == str(place)
    pid: int = answer["pid"]
    return pid


def test_two_mounts_see_each_others_closed_files_at_once(cluster: Cluster, second: Path) -> None:
    cluster.dfs("mount", cluster.address, second)
    first = cluster.mountpoint / "shared"
    first.mkdir()
    for number in range(20):
        here, there = (first, second / "shared") if number % 2 else (second / "shared", first)
        content = os.urandom(1000 * number)
        (here / f"f{number}").write_bytes(content)
        assert (there / f"f{number}").read_bytes() == content
        assert (there / f"f{number}").stat().st_size == len(content)
        os.rename(there / f"f{number}", there / "renamed")
        assert (here / "renamed").read_bytes() == content
        assert not (here / f"f{number}").exists()
        (here / "renamed").write_bytes(b"again")
        assert (there / "renamed").read_bytes() == b"again"
        os.unlink(there / "renamed")
        assert os.listdir(here) == []
    cluster.dfs("umount", second)


def test_a_directory_that_the_other_mount_moved_can_be_moved_on(
    cluster: Cluster, second: Path
) -> None:
    """Each kernel remembers the place where it saw the directory last."""
    cluster.dfs("mount", cluster.address, second)
    mounts, chooser = (cluster.mountpoint, second), random.Random(7)
    top = cluster.mountpoint / "moves"
    names = [f"moves/{directory}/{name}" for directory in "de" for name in "abc"]
    for directory in "de":
        (top / directory).mkdir(parents=True)
    place = names[0]
    (cluster.mountpoint / place).mkdir()
    for _ in range(100):
        target = chooser.choice([name for name in names if name != place])
        mount = chooser.choice(mounts)
        os.rename(mount / place, mount / target)
        place = target
    cluster.dfs("umount", second)


def test_a_file_removed_by_the_other_mount_stays_readable(cluster: Cluster, second: Path) -> None:
    cluster.dfs("mount", cluster.dir, second)
    content = os.urandom(3 * MIB)
    (cluster.mountpoint / "doomed").write_bytes(content)
    with open(second / "doomed", "rb") as file:
        os.unlink(cluster.mountpoint / "doomed")
        assert file.read() == content
    assert not (second / "doomed").exists()
    cluster.dfs("umount", second)


def test_a_subdirectory_as_a_mount_of_its_own(cluster: Cluster, second: Path) -> None:
    (cluster.mountpoint / "top" / "sub").mkdir(parents=True)
    cluster.dfs("mount", f"{cluster.dir}:/top", second)
    (second / "sub" / "f").write_text("below")
    assert (cluster.mountpoint / "top" / "sub" / "f").read_text() == "below"
    assert sorted(os.listdir(second)) == ["sub"]
    assert {entry.name for entry in os.scandir(second / "sub")} == {"f"}
    assert os.stat(second).st_ino == 1
    assert os.path.samestat(os.stat(second / "sub" / ".."), os.stat(second))
    cluster.dfs("umount", second)
    said = run_dfs("mount", f"{cluster.dir}:/nowhere", second)
    assert said.returncode == 1
    assert "/nowhere" in said.stderr


def test_a_read_only_mount(cluster: Cluster, second: Path) -> None:
    (cluster.mountpoint / "kept").write_text("kept")
    cluster.dfs("mount", cluster.mountpoint, second, "-o", "ro,noatime")
    assert (second / "kept").read_text() == "kept"
    for change in (lambda: (second / "x").touch(), lambda: os.unlink(second / "kept")):
        with pytest.raises(OSError) as caught:
            change()
        assert caught.value.errno == errno.EROFS
    cluster.dfs("umount", second)
    assert (cluster.mountpoint / "kept").read_text() == "kept"


def test_umount_returns_when_everything_is_durable(cluster: Cluster, second: Path) -> None:
    """What was written but not synced is there although every process dies right afterwards."""
    cluster.dfs("mount", cluster.dir, second)
    pid = mount_pid(second)
    content = os.urandom(24 * MIB)
    (second / "unsynced").write_bytes(content)
    cluster.dfs("umount", second)
    assert not is_alive(pid)
    for role in ("mount", "meta", "chunk-0", "chunk-1", "chunk-2"):
        cluster.kill(role)
    cluster.wait_healthy()
    assert (cluster.mountpoint / "unsynced").read_bytes() == content
    cluster.fsck("--verify-data")


def test_sigterm_is_a_clean_unmount(cluster: Cluster, second: Path) -> None:
    cluster.dfs("mount", cluster.dir, second)
    pid = mount_pid(second)
    (second / "at-the-end").write_bytes(b"e" * MIB)
    os.kill(pid, signal.SIGTERM)
    deadline_s = time.monotonic() + 30
    while is_alive(pid):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    assert find_mount(str(second)) is None
    assert (cluster.mountpoint / "at-the-end").stat().st_size == MIB


def test_umount_of_a_mount_in_use_is_refused_and_names_the_user(
    cluster: Cluster, second: Path
) -> None:
    cluster.dfs("mount", cluster.dir, second)
    with open(second / "open", "wb") as file:
        file.write(b"not flushed yet")
        said = run_dfs("umount", second)
        assert said.returncode == 1
        assert f"({os.getpid()})" in said.stderr
        assert "--lazy" in said.stderr
        assert said.stderr.count("\n") == 1
        assert find_mount(str(second)) is not None
    cluster.dfs("umount", second)
    assert (cluster.mountpoint / "open").read_bytes() == b"not flushed yet"


def test_a_killed_mount_is_cleared_by_umount_or_by_the_next_mount(
    cluster: Cluster, second: Path
) -> None:
    for clear in (["umount", second], ["mount", cluster.dir, second]):
        cluster.dfs("mount", cluster.dir, second)
        write_synced(second / "synced", b"s" * MIB)
        os.kill(mount_pid(second), signal.SIGKILL)
        wait_dead(second)
        hint = run_dfs("status", second)
        assert hint.returncode == 1
        assert "dfs umount" in hint.stderr
        cluster.dfs(*clear)
    assert (second / "synced").read_bytes() == b"s" * MIB
    cluster.dfs("umount", second)


def wait_dead(place: Path) -> None:
    deadline_s = time.monotonic() + 30
    while not is_stale(str(place)):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_a_killed_mount_of_the_cluster_comes_back(cluster: Cluster) -> None:
    write_synced(cluster.mountpoint / "before", b"b" * MIB)
    killed = cluster.kill("mount")
    cluster.wait_healthy()
    assert cluster.pids()["mount"] != killed
    assert (cluster.mountpoint / "before").read_bytes() == b"b" * MIB


def test_servers_that_die_are_waited_for(cluster: Cluster) -> None:
    for role in ("meta", "chunk-0"):
        cluster.kill(role)
        (cluster.mountpoint / f"after-{role}").write_bytes(b"x" * MIB)
        assert (cluster.mountpoint / f"after-{role}").read_bytes() == b"x" * MIB
    cluster.wait_healthy()


@pytest.mark.skipif(not HELPER.exists(), reason="tools/up has not installed /sbin/mount.dfs")
def test_mount_and_umount_programs(cluster: Cluster, second: Path) -> None:
    options = "defaults,_netdev,noatime,x-systemd.requires=network-online.target"
    command = ["mount", "-t", "dfs", cluster.address, second, "-o", options]
    subprocess.run(command, check=True)
    (second / "by-mount").write_text("mounted")
    pid = mount_pid(second)
    subprocess.run(["umount", second], check=True)
    deadline_s = time.monotonic() + 30
    while is_alive(pid):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    assert (cluster.mountpoint / "by-mount").read_text() == "mounted"
    failed = subprocess.run(
        ["mount", "-t", "dfs", "127.0.0.1:1", second], capture_output=True, text=True, check=False
    )
    assert failed.returncode == 32
    assert "127.0.0.1:1" in failed.stderr


def test_the_mount_helper_as_mount_calls_it(cluster: Cluster, second: Path) -> None:
    cluster.dfs("mount-helper", cluster.address, second, "-s", "-o", "rw,made_up,nosuid")
    assert find_mount(str(second)) is not None
    cluster.dfs("umount", second)
    cluster.dfs("mount-helper", cluster.address, second, "-f", "-v", "-t", "dfs")
    assert find_mount(str(second)) is None
    said = run_dfs("mount-helper", cluster.address, second, "-o", "made_up")
    assert (said.returncode, said.stderr) == (1, "mount.dfs: unknown mount option: made_up\n")


def test_an_interrupted_request_does_not_stop_the_mount(cluster: Cluster) -> None:
    """A request that is withdrawn must not leave the mount waiting for the next one."""
    cluster.stop("meta")
    command = [
        sys.executable,
        "-c",
        "import os,sys; os.stat(sys.argv[1])",
        cluster.mountpoint / "x",
    ]
    waiting = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(8)]
    time.sleep(0.5)
    for process in waiting:
        process.kill()
    cluster.resume("meta")
    for process in waiting:
        assert process.wait(timeout=30) == -signal.SIGKILL
    assert not (cluster.mountpoint / "x").exists()
