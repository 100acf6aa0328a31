"""Goal: every wrong input gets one clear line and exit status 1 or 2, never a traceback.

Method: give it to the real program, next to a real cluster, and look at all that it says.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dfs.background import dfs_command, dfs_environment
from dfs.mountpoint import find_mount
from tests.cluster.running import run_dfs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.conftest import Cluster

pytestmark = pytest.mark.cluster

NOBODY = 65534
NOBODY_HOME = "127.0.0.1:1"
"""An address where nobody listens."""


@pytest.fixture
def place() -> Iterator[Path]:
    """A short directory of the test's own."""
    path = Path(tempfile.mkdtemp(prefix="dfs-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def refused(*arguments: object, status: int, words: str, timeout_s: float = 60) -> str:
    """Run dfs, which must refuse in one line with this status and these words; the line."""
    done = run_dfs(*arguments, timeout_s=timeout_s)
    said = f"dfs {' '.join(map(str, arguments))}: {done.returncode}\n{done.stdout}{done.stderr}"
    assert "Traceback" not in said, said
    assert done.returncode == status, said
    assert done.stdout == "", said
    assert done.stderr.count("\n") == 1, said
    assert words in done.stderr, said
    return done.stderr


@contextmanager
def server(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A server in the foreground, for a while."""
    process = subprocess.Popen(
        dfs_command(*map(str, arguments)),
        env=dfs_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)


def wait_for_socket(path: Path) -> None:
    deadline_s = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline_s, f"no socket {path}"
        time.sleep(0.02)


# ── addresses and targets ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("command", ["status", "fsck"])
def test_no_server_at_the_address(command: str) -> None:
    refused(command, NOBODY_HOME, status=1, words=NOBODY_HOME)
    refused(command, "unix:/nowhere/x.sock", status=1, words="/nowhere/x.sock")
    refused(command, "no-such-host.invalid:7400", status=1, words="no-such-host.invalid")


def test_mounting_from_nowhere(place: Path) -> None:
    refused("mount", NOBODY_HOME, place, status=1, words=NOBODY_HOME)
    refused("mount", f"{NOBODY_HOME},127.0.0.1:2", place, status=1, words="127.0.0.1:2")
    assert find_mount(str(place)) is None


@pytest.mark.parametrize(
    "target", ["nonsense", "/nonsense", "meta1:port", "meta1:99999", "a:1,,b:2"]
)
def test_a_target_that_is_none(target: str, place: Path) -> None:
    for arguments in (["status", target], ["fsck", target], ["mount", target, place]):
        refused(*arguments, status=2, words=target.split(",")[0].split(":")[0])


def test_a_directory_that_is_no_cluster(place: Path) -> None:
    refused("status", place, status=2, words=str(place))
    refused("down", "--dir", place, status=1, words="no local cluster")


def test_a_server_that_speaks_another_language(place: Path) -> None:
    """Somebody listens, but not dfs: it answers nonsense, or never."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(place / "s"))
        listening.listen()
        silent = subprocess.Popen(
            dfs_command("status", f"unix:{place}/s"),
            env=dfs_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        connection, _ = listening.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 4)
            out, said = silent.communicate(timeout=30)
    assert (silent.returncode, out, said.count("\n")) == (1, "", 1), said
    assert f"unix:{place}/s" in said


# ── mount points ─────────────────────────────────────────────────────────────────────────────────


def test_mount_points_that_do_not_fit(cluster: Cluster, place: Path) -> None:
    (place / "file").touch()
    (place / "full").mkdir()
    (place / "full" / "x").touch()
    refused("mount", cluster.dir, place / "none", status=1, words="mkdir -p")
    refused("mount", cluster.dir, place / "file", status=1, words="not a directory")
    refused("mount", cluster.dir, place / "full", status=1, words="nonempty")
    refused("mount", cluster.dir, cluster.mountpoint, status=1, words="already mounted")
    cluster.dfs("mount", cluster.dir, place / "full", "-o", "nonempty")
    cluster.dfs("umount", place / "full")
    assert (place / "full" / "x").exists()


def test_mount_options_that_do_not_exist(cluster: Cluster, place: Path) -> None:
    refused("mount", cluster.dir, place, "-o", "ro,rosebud", status=2, words="rosebud")
    refused("mount", cluster.dir, place, "-o", "max_read=much", status=2, words="max_read")
    assert find_mount(str(place)) is None


def test_unmounting_what_is_not_ours(cluster: Cluster, place: Path) -> None:
    refused("umount", place, status=1, words="not a mount point")
    refused("umount", place / "none", status=1, words="no such directory")
    refused("umount", "/proc", status=1, words="not a dfs mount")
    (cluster.mountpoint / "below").mkdir()
    refused("umount", cluster.mountpoint / "below", status=1, words=str(cluster.mountpoint))


def test_users_without_privileges(cluster: Cluster, place: Path) -> None:
    """What they may not do is said, with what would help."""
    os.chown(place, NOBODY, NOBODY)

    def as_nobody(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            dfs_command(*map(str, arguments)),
            env={**dfs_environment(), "HOME": str(place)},
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            capture_output=True,
            text=True,
            check=False,
        )

    try:
        is_readable = as_nobody("--version").returncode == 0
    except PermissionError:
        is_readable = False
    if not is_readable:
        pytest.skip("other users cannot read this checkout or its interpreter")
    for arguments in (
        ["umount", cluster.mountpoint],
        ["mount", cluster.address, place],
        ["down", "--dir", cluster.dir],
        ["chunk", "--data", "/etc/x", "--meta", NOBODY_HOME, "--listen", "127.0.0.1:0"],
        ["up", "--dir", "/etc/x"],
    ):
        done = as_nobody(*arguments)
        assert done.returncode in (1, 2), arguments
        assert done.stderr.count("\n") == 1, done.stderr
        assert "Traceback" not in done.stderr
    assert cluster.directory.is_running


def test_paths_outside_of_any_mount(place: Path) -> None:
    (place / "f").touch()
    refused("info", place / "f", status=2, words="not on a dfs mount")
    refused("info", place / "none", status=1, words="No such file")
    refused("bench", place / "f", status=2, words="not a directory")


# ── servers ──────────────────────────────────────────────────────────────────────────────────────


def test_servers_with_wrong_words(place: Path) -> None:
    meta = ["meta", "--engine", f"lmdb:{place}/m", "--listen"]
    refused(*meta, "nonsense", status=2, words="nonsense")
    refused(*meta, "127.0.0.1:99999", status=2, words="65535")
    refused(*meta, "192.0.2.1:7400", status=1, words="192.0.2.1:7400")
    refused("meta", "--engine", "oracle:x", "--listen", "127.0.0.1:0", status=2, words="oracle:x")
    refused("meta", "--engine", "lmdb:", "--listen", "127.0.0.1:0", status=2, words="lmdb:")
    refused(
        "meta", "--engine", "lmdb:/proc/x", "--listen", "127.0.0.1:0", status=1, words="/proc/x"
    )
    refused("meta", "--copies", 0, status=2, words="--copies")
    refused("meta", "--copies", 1, "--min-copies", 2, status=2, words="--min-copies")
    refused("meta", "--block-size", "3M", status=2, words="3M")
    chunk = ["chunk", "--meta", NOBODY_HOME, "--data"]
    refused(*chunk, place / "c", "--listen", "nonsense", status=2, words="nonsense")
    refused(*chunk, place / "c", "--capacity", "much", status=2, words="much")
    refused(*chunk, "/proc/x", "--listen", "127.0.0.1:0", status=1, words="/proc/x")
    refused("chunk", "--data", place / "c", status=2, words="--meta")


def test_an_address_in_use(cluster: Cluster, place: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        refused("meta", "--engine", "memory:", "--listen", address, status=1, words=address)
    chunk = ["chunk", "--data", place / "c", "--meta", cluster.address]
    refused(*chunk, "--listen", cluster.address, status=1, words=cluster.address)


def test_a_directory_in_use(cluster: Cluster, place: Path) -> None:
    listen = ["--listen", f"unix:{place}/s"]
    chunk = ["chunk", "--data", cluster.dir / "chunk-0", "--meta", cluster.address]
    refused(*chunk, *listen, status=1, words="chunk-0")
    refused("meta", "--engine", f"lmdb:{cluster.dir}/meta", *listen, status=1, words="meta")


def test_a_data_directory_of_another_cluster(cluster: Cluster, place: Path) -> None:
    """A chunk server that belongs elsewhere must not join, and says where it belongs."""
    other = f"unix:{place}/m"
    arguments = ["chunk", "--data", place / "c", "--listen", f"unix:{place}/s", "--meta"]
    with (
        server("meta", "--engine", "memory:", "--listen", other, "--copies", 1),
        server(*arguments, other),
    ):
        deadline_s = time.monotonic() + 30
        while 'servers_up": 1' not in run_dfs("status", other, "--json").stdout:
            assert time.monotonic() < deadline_s
    done = run_dfs(*arguments, cluster.address)
    assert done.returncode == 1
    assert "cluster" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert len(json.loads(cluster.dfs("status", "--json"))["status"]["servers"]) == 3


def test_data_of_a_newer_version(place: Path) -> None:
    newer = {"format_version": 99, "server_id": "0" * 16, "chunk_servers": 1, "copies": 1}
    (place / "c").mkdir()
    (place / "c" / "server.json").write_text(json.dumps(newer))
    chunk = ["chunk", "--data", place / "c", "--meta", NOBODY_HOME, "--listen", f"unix:{place}/s"]
    refused(*chunk, status=1, words="newer")
    (place / "cluster.json").write_text(json.dumps({**newer, "mountpoint": "/m"}))
    refused("up", "--dir", place, status=1, words="newer")
    refused("fsck", place, status=1, words="newer")


def test_wishes_that_a_local_cluster_cannot_meet(cluster: Cluster, place: Path) -> None:
    up = ["up", "--dir", place / "c", "--mount", place / "m"]
    refused(*up, "--chunk-servers", 1, "--copies", 2, status=2, words="chunk servers")
    refused(*up, "--copies", 9, status=2, words="--copies")
    (place / "full").mkdir()
    (place / "full" / "x").touch()
    refused("up", "--dir", place / "c", "--mount", place / "full", status=1, words="not empty")
    refused("up", "--dir", cluster.dir, "--copies", 1, status=2, words="--copies 2")
    refused("up", "--dir", cluster.dir, "--chunk-servers", 2, status=2, words="3 chunk servers")
    refused("up", "--dir", cluster.dir, "--mount", place / "m", status=1, words="dfs mount")
    refused("up", "--dir", "/proc/x", "--mount", place / "m", status=1, words="/proc/x")
    assert not (place / "c" / "cluster.json").exists()


def test_a_local_cluster_that_cannot_start(place: Path) -> None:
    """Its parts' own words come out, and nothing keeps running."""
    up = ["up", "--dir", place / "c", "--mount", place / "m"]
    (place / "c").mkdir()
    (place / "c" / "meta").write_text("not a directory")
    refused(*up, status=1, words="meta does not start")
    assert not Path(place / "c" / "run" / "meta.sock").exists()
    assert find_mount(str(place / "m")) is None


# ── packets ──────────────────────────────────────────────────────────────────────────────────────


def garbage() -> dict[str, bytes]:
    huge = (1 << 31).to_bytes(4, "big")
    return {
        "no packet at all": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "a header too large": b"dfs\x01" + huge + bytes(4),
        "a payload too large": b"dfs\x01" + (10).to_bytes(4, "big") + huge,
        "another version": b"dfs\x63" + bytes(8),
        "a message that is none": b"dfs\x01"
        + (4).to_bytes(4, "big")
        + bytes(4)
        + b"\xc1\xc1\xc1\xc1",
        "half a packet": b"dfs\x01" + (100).to_bytes(4, "big") + bytes(4) + b"half",
        "noise": bytes(range(256)) * 64,
    }


@pytest.mark.parametrize("kind", garbage())
def test_garbage_on_a_servers_socket(cluster: Cluster, kind: str) -> None:
    """The server says in one line who sent it, closes that link, and lives."""
    before = cluster.pids()
    for role in ("meta", "chunk-0"):
        log = cluster.directory.log(role)
        seen = log.stat().st_size
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(str(cluster.directory.socket_directory / f"{role}.sock"))
            link.settimeout(30)
            link.sendall(garbage()[kind])
            link.shutdown(socket.SHUT_WR)
            while link.recv(65536):
                pass
        said = log.read_text()[seen:]
        assert "Traceback" not in said
        assert said.count("closing the connection") <= 1
    (cluster.mountpoint / "alive").write_bytes(os.urandom(300_000))
    os.unlink(cluster.mountpoint / "alive")
    assert cluster.pids() == before


def test_interrupting_a_command_is_quiet(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(place / "s"))
        silent.listen()
        process = subprocess.Popen(
            dfs_command("status", f"unix:{place}/s"),
            env=dfs_environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        silent.accept()[0].close()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert "Traceback" not in said
    assert process.returncode in (1, 130)


def test_without_assertions_nothing_runs() -> None:
    done = subprocess.run(
        [sys.executable, "-O", "-m", "dfs", "status"],
        env=dfs_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
