"""Goal: with the tap a mount agrees on more with the kernel, polls only when that pays, and keeps
every promise about set-id bits; without it a mount works and says why.

Method: a small filesystem without a cluster for what is between kernel and tap, a real mount of dfs
for what dfs makes of it.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dfs.background import dfs_environment
from dfs.mount.fusetap.wire import InitFlag
from dfs.mountpoint import find_mount, take_off
from tests.cluster.running import run_dfs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cluster.conftest import Cluster

pytestmark = pytest.mark.cluster

USER = 65534
CAP_FSETID = 4
PR_CAPBSET_DROP = 24
WAIT_S = 20
SERVE_SMALL = "import dfs.mount, tests.cluster.small_filesystem as small; small.main()"
SET_ID = stat.S_ISUID | stat.S_ISGID
CAPABILITY = b"\x01\x00\x00\x02\x00\x04\x00\x00" + bytes(12)
"""security.capability: cap_net_bind_service+p (linux/capability.h, version 2)."""


# ------------------------------------------------------------------ without a cluster


class Small:
    """A mounted `tests.cluster.small_filesystem`."""

    def __init__(self, place: Path, process: subprocess.Popen[bytes]) -> None:
        self.place = place
        self.process = process

    def seen(self) -> Any:
        return json.loads(os.getxattr(self.place, "user.seen"))

    def calls_of(self, action: Callable[[], object], *names: str) -> list[int]:
        """How often each handler ran during the action."""
        before = self.seen()["calls"]
        action()
        after = self.seen()["calls"]
        return [after.get(name, 0) - before.get(name, 0) for name in names]


def _wait(is_so: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline_s, f"waited for {what}"
        time.sleep(0.01)


@pytest.fixture
def start_small(_needs_mounts: None) -> Iterator[Callable[..., Small]]:
    running: list[Small] = []
    top = Path(tempfile.mkdtemp(prefix="dfs-"))
    top.chmod(0o755)

    def start(**environment: str) -> Small:
        place = top / f"small{len(running)}"
        place.mkdir()
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE_SMALL, str(place)],
            env=dfs_environment(environment),
        )
        running.append(Small(place, process))
        _wait(lambda: find_mount(str(place)) is not None, "the mount")
        return running[-1]

    yield start
    for small in running:
        if find_mount(str(small.place)) is not None:
            take_off(str(small.place), is_lazy=True)
        try:
            small.process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            small.process.kill()
            small.process.wait()
            raise
    shutil.rmtree(top)


def test_what_is_agreed_on_and_counted(start_small: Callable[..., Small]) -> None:
    small = start_small()
    seen = small.seen()
    assert seen["why_plain"] == ""
    agreed, offered = InitFlag(seen["agreed"]), InitFlag(seen["status"]["flags_offered"])
    for flag in (InitFlag.PARALLEL_DIROPS, InitFlag.HANDLE_KILLPRIV_V2, InitFlag.CACHE_SYMLINKS):
        assert (flag in agreed) == (flag in offered)
    assert seen["status"]["in_flight"] == 1, "the very request that asks"
    assert small.seen()["status"]["request_count"] > seen["status"]["request_count"]


def test_without_the_tap_it_works_and_says_why(start_small: Callable[..., Small]) -> None:
    small = start_small(DFS_FUSE_TAP="0")
    (small.place / "f").write_bytes(b"plain")
    assert (small.place / "f").read_bytes() == b"plain"
    seen = small.seen()
    assert seen["why_plain"] == "switched off (DFS_FUSE_TAP=0)"
    assert (seen["agreed"], seen["kills"], seen["status"]) == (0, [], {})


def test_only_who_may_write_is_flushed(start_small: Callable[..., Small]) -> None:
    small = start_small()
    (small.place / "f").write_bytes(b"content")
    assert small.calls_of((small.place / "f").read_bytes, "open", "flush") == [1, 0]
    append = lambda: (small.place / "f").open("ab").close()  # noqa: E731
    assert small.calls_of(append, "open", "flush") == [1, 1]
    create = lambda: os.close(os.open(small.place / "g", os.O_CREAT | os.O_RDONLY))  # noqa: E731
    assert small.calls_of(create, "flush") == [0]


def test_no_question_for_capabilities_before_each_write(start_small: Callable[..., Small]) -> None:
    small = start_small()
    with (small.place / "f").open("wb", buffering=0) as file:

        def write() -> None:
            for _ in range(50):
                file.write(b"x")

        calls = small.calls_of(write, "write", "getxattr security.capability")
    assert calls[0] == 50
    assert calls[1] <= 1


def test_the_head_says_whose_change_takes_set_id_bits(start_small: Callable[..., Small]) -> None:
    """Each of root and a user: a write, an open with O_TRUNC, a truncation."""
    small = start_small()
    path = small.place / "f"
    path.write_bytes(b"content")
    program = (
        "import os,sys; os.setuid(int(sys.argv[2])); f=os.open(sys.argv[1], os.O_RDWR);"
        "os.write(f, b'x'); os.close(os.open(sys.argv[1], os.O_RDWR | os.O_TRUNC));"
        "os.truncate(sys.argv[1], 0)"
    )
    for uid, kills in ((0, False), (USER, True)):
        subprocess.run([sys.executable, "-c", program, str(path), str(uid)], check=True, cwd="/")
        assert small.seen()["kills"][-3:] == [kills] * 3


def test_an_idle_mount_costs_nothing(start_small: Callable[..., Small]) -> None:
    small = start_small()
    for _ in range(500):
        assert not os.path.lexists(small.place / "none")
    # Nearly all of them on a quiet machine; on a loaded one the caller is often too late.
    assert small.seen()["status"]["found_count"] > 20, "polling paid"

    def cpu_ticks() -> int:
        fields = Path(f"/proc/{small.process.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    _wait(lambda: _is_asleep(small.process.pid), "it to sleep")
    before = cpu_ticks()
    assert not _wakes_within(small.process.pid, seconds=2)
    assert cpu_ticks() == before


def test_nobody_polls_for_a_slow_caller(start_small: Callable[..., Small]) -> None:
    """Requests that come 3 ms after the last reply; the first few polls for them are in vain."""
    small = start_small()
    for _ in range(200):
        assert not os.path.lexists(small.place / "none")
    before = small.seen()["status"]
    for _ in range(100):
        assert not os.path.lexists(small.place / "none")
        time.sleep(0.003)
    after = small.seen()["status"]
    assert after["request_count"] - before["request_count"] >= 100
    assert after["vain_count"] - before["vain_count"] <= 8
    assert not after["is_polling"]


def _is_asleep(pid: int) -> bool:
    return Path(f"/proc/{pid}/wchan").read_text() not in ("", "0")


def _wakes_within(pid: int, *, seconds: float) -> bool:
    """Whether it runs at all: every sleep that ends is counted by the kernel."""

    def switches() -> str:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next(line for line in lines if line.startswith("voluntary_ctxt_switches"))

    before = switches()
    time.sleep(seconds)
    return switches() != before


def test_requests_that_are_withdrawn_do_not_stop_it(start_small: Callable[..., Small]) -> None:
    """Many callers are killed while they ask; whoever asks next is answered."""
    small = start_small()
    program = "import os,sys\nwhile True: os.path.lexists(sys.argv[1])"
    for _ in range(5):
        command = [sys.executable, "-c", program, str(small.place / "none")]
        callers = [subprocess.Popen(command) for _ in range(4)]
        time.sleep(0.2)
        for caller in callers:
            caller.send_signal(signal.SIGKILL)
            caller.wait()
        assert small.seen()["status"]["in_flight"] == 1


def test_it_ends_by_itself_when_it_is_unmounted_under_load(
    start_small: Callable[..., Small],
) -> None:
    small = start_small()
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            os.path.lexists(small.place / "none")

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        time.sleep(0.1)
        take_off(str(small.place), is_lazy=True)
        assert small.process.wait(WAIT_S) == 0
    finally:
        is_over.set()
        asking.join()


def test_the_dentry_epoch_makes_all_names_be_looked_up_again(
    start_small: Callable[..., Small],
) -> None:
    small = start_small()
    names = [small.place / f"f{number}" for number in range(50)]
    for name in names:
        name.touch()

    def look() -> None:
        for name in names:
            name.stat()

    look()
    assert small.calls_of(look, "lookup") == [0]
    assert small.calls_of(lambda: os.setxattr(small.place, "user.advance", b""), "lookup") == [0]
    is_known = small.seen()["calls"].get("epoch known", 0) == 1
    assert small.calls_of(look, "lookup") == [len(names) if is_known else 0]
    version = tuple(map(int, os.uname().release.split(".")[:2]))
    assert is_known == (version >= (6, 16))


# ------------------------------------------------------------------ a mount of dfs


@pytest.fixture
def program_file(cluster: Cluster, request: pytest.FixtureRequest) -> Path:
    """A program with set-id bits that everyone may write, and a file capability."""
    path = cluster.mountpoint / request.node.name[:60]
    path.write_bytes(b"#!/bin/sh\n")
    os.chown(path, USER, USER)
    path.chmod(0o6777)
    os.setxattr(path, "security.capability", CAPABILITY)
    return path


def set_id_of(path: Path) -> int:
    return path.stat().st_mode & SET_ID


def has_capability(path: Path) -> bool:
    return "security.capability" in os.listxattr(path)


def without_set_id_capability() -> None:
    """For a child: root, but without CAP_FSETID after its next program."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(PR_CAPBSET_DROP, CAP_FSETID, 0, 0, 0) == 0


def change(path: Path, how: str, uid: int = 0, **options: Any) -> None:
    """Change the content as `uid`: write, truncate, or open with O_TRUNC. The file is looked at
    after the change and before close."""
    program = (
        "import os,sys; path, how, uid = sys.argv[1:]; os.setuid(int(uid));"
        "f=os.open(path, os.O_WRONLY | (os.O_TRUNC if how=='open' else 0));"
        "how=='write' and os.write(f, b'x'); how=='truncate' and os.ftruncate(f, 3);"
        "print(oct(os.fstat(f).st_mode & 0o7777))"
    )
    seen = subprocess.run(
        [sys.executable, "-c", program, str(path), how, str(uid)],
        check=True,
        cwd="/",
        capture_output=True,
        text=True,
        **options,
    )
    assert int(seen.stdout, 8) == stat.S_IMODE(path.stat().st_mode), "at once, not at close"


@pytest.mark.parametrize("how", ["write", "truncate", "open"])
def test_a_users_change_takes_set_id_bits_at_once(program_file: Path, how: str) -> None:
    change(program_file, how, USER)
    assert set_id_of(program_file) == 0
    assert not has_capability(program_file)


@pytest.mark.parametrize("how", ["write", "truncate", "open"])
def test_roots_change_takes_only_the_capability(program_file: Path, how: str) -> None:
    change(program_file, how)
    assert set_id_of(program_file) == SET_ID
    assert not has_capability(program_file)


@pytest.mark.parametrize("how", ["write", "truncate", "open"])
def test_a_root_without_cap_fsetid_is_like_a_user(program_file: Path, how: str) -> None:
    change(program_file, how, preexec_fn=without_set_id_capability)
    assert set_id_of(program_file) == 0
    assert not has_capability(program_file)


def test_a_chown_of_nothing_takes_set_id_bits(program_file: Path) -> None:
    """Root's and the owner's; nobody else's (chown_common(), setattr_prepare())."""
    os.removexattr(program_file, "security.capability")
    program = "import os,sys; os.setuid(int(sys.argv[2])); os.chown(sys.argv[1], -1, -1)"
    for uid, is_taken in ((0, True), (USER, True), (USER - 1, False)):
        program_file.chmod(0o6777)
        command = [sys.executable, "-c", program, str(program_file), str(uid)]
        subprocess.run(command, check=True, cwd="/")
        assert set_id_of(program_file) == (0 if is_taken else SET_ID)


@pytest.mark.parametrize("how", ["write", "truncate", "open"])
def test_somebody_elses_change_takes_set_id_bits(program_file: Path, how: str) -> None:
    change(program_file, how, USER - 1)
    assert set_id_of(program_file) == 0
    assert not has_capability(program_file)


def test_the_writer_counts_not_who_opened_the_file(program_file: Path) -> None:
    """Both ways; a user's program writes through root's descriptor, root through a user's."""
    program = "import os,sys; os.setuid(int(sys.argv[1])); os.write(1, b'x')"
    with program_file.open("r+b") as file:
        subprocess.run([sys.executable, "-c", program, str(USER)], check=True, cwd="/", stdout=file)
        assert set_id_of(program_file) == 0
    program_file.chmod(0o6777)
    program = (
        "import os,sys; os.seteuid(int(sys.argv[2])); f=os.open(sys.argv[1], os.O_RDWR);"
        "os.seteuid(0); os.write(f, b'x')"
    )
    command = [sys.executable, "-c", program, str(program_file), str(USER)]
    subprocess.run(command, check=True, cwd="/")
    assert set_id_of(program_file) == SET_ID


def test_a_mount_says_that_it_has_the_tap_or_why_not(cluster: Cluster) -> None:
    answer = json.loads(os.getxattr(cluster.mountpoint, "user.dfs.mount"))
    assert answer["slow_because"] == ""
    assert "FUSE" not in cluster.dfs("status", cluster.mountpoint)
    second = cluster.dir.parent / "plain"
    second.mkdir()
    done = run_dfs("mount", cluster.address, second, DFS_FUSE_TAP="0")
    assert done.returncode == 0, done.stderr
    try:
        (second / "plain").write_bytes(b"works")
        assert (cluster.mountpoint / "plain").read_bytes() == b"works"
        said = cluster.dfs("status", second)
        assert "switched off (DFS_FUSE_TAP=0)" in said
        log = json.loads(os.getxattr(second, "user.dfs.mount"))["log_path"]
        assert not log or "switched off" in Path(log).read_text()
    finally:
        cluster.dfs("umount", second)
        second.rmdir()
