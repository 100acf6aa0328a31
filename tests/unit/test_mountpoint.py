"""Goal: mounts are found and judged without touching them more than needed.

Method: lines of mountinfo as the kernel writes them, and real empty or filled directories.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from dfs import mountpoint
from dfs.errors import UserError
from dfs.mountpoint import (
    MountEntry,
    check_mountpoint,
    find_mount,
    in_use_message,
    is_stale,
    mount_of,
    mount_table,
    parse_mountinfo,
    printable,
    real_path,
    take_off,
    users_of,
)

if TYPE_CHECKING:
    from pathlib import Path

DFS = MountEntry(path="/mnt/d", filesystem_type="fuse.dfs", source="h:1", device="0:77")


def with_mounts(monkeypatch: pytest.MonkeyPatch, *entries: MountEntry) -> None:
    root = MountEntry(path="/", filesystem_type="ext4", source="/dev/vda", device="8:1")
    monkeypatch.setattr(mountpoint, "mount_table", lambda: [root, *entries])


def test_mountinfo_lines() -> None:
    line = (
        r"36 35 0:77 / /mnt/a\040b\134c rw,nosuid shared:1 master:2 - fuse.dfs h:1,h:2 rw,user_id=0"
    )
    assert parse_mountinfo(line) == MountEntry(
        path="/mnt/a b\\c", filesystem_type="fuse.dfs", source="h:1,h:2", device="0:77"
    )
    plain = "22 27 0:21 / /proc rw,relatime - proc proc rw"
    assert parse_mountinfo(plain).filesystem_type == "proc"


def test_this_machine_has_mounts() -> None:
    assert any(entry.path == "/proc" for entry in mount_table())
    found = find_mount("/proc")
    assert found is not None
    assert found.filesystem_type == "proc"
    assert mount_of("/proc/self").path.startswith("/proc")


def test_the_topmost_and_the_longest_win(monkeypatch: pytest.MonkeyPatch) -> None:
    other = MountEntry(path="/mnt/d", filesystem_type="tmpfs", source="x", device="0:5")
    inner = MountEntry(path="/mnt/d/in", filesystem_type="tmpfs", source="x", device="0:6")
    with_mounts(monkeypatch, other, DFS, inner)
    assert find_mount("/mnt/d") == DFS
    assert find_mount("/mnt") is None
    assert mount_of("/mnt/d/in/side").path == "/mnt/d/in"
    assert mount_of("/mnt/dd").path == "/"


def test_a_good_mount_point_is_an_empty_directory(tmp_path: Path) -> None:
    check_mountpoint(str(tmp_path), is_nonempty_fine=False)
    (tmp_path / "file").touch()
    check_mountpoint(str(tmp_path), is_nonempty_fine=True)
    with pytest.raises(UserError, match="nonempty"):
        check_mountpoint(str(tmp_path), is_nonempty_fine=False)
    with pytest.raises(UserError, match="not a directory"):
        check_mountpoint(str(tmp_path / "file"), is_nonempty_fine=False)
    with pytest.raises(UserError, match="mkdir -p"):
        check_mountpoint(str(tmp_path / "missing"), is_nonempty_fine=False)


def test_what_is_mounted_already_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    entry = MountEntry(str(tmp_path), "fuse.dfs", "h:1", "0:9")
    with_mounts(monkeypatch, entry)
    with pytest.raises(UserError, match="already mounted"):
        check_mountpoint(str(tmp_path), is_nonempty_fine=True)
    monkeypatch.setattr(mountpoint, "is_stale", lambda path: True)
    with pytest.raises(UserError, match="dead mount"):
        check_mountpoint(str(tmp_path), is_nonempty_fine=True)


def test_stale_is_what_answers_not_connected(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert not is_stale(str(tmp_path))
    assert not is_stale(str(tmp_path / "missing"))

    def dead(path: str) -> None:
        raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    monkeypatch.setattr(os, "statvfs", dead)
    assert is_stale("/anything")


def test_a_mount_point_is_named_without_looking_at_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert real_path(str(tmp_path / "link")) == str(tmp_path / "real")
    with_mounts(monkeypatch, MountEntry(str(tmp_path / "link"), "fuse.dfs", "x", "0:9"))
    assert real_path(str(tmp_path / "link")) == str(tmp_path / "link")
    assert real_path("/") == "/"


def test_users_are_found_by_their_directory(tmp_path: Path) -> None:
    place = str(tmp_path.resolve())
    assert users_of(place) == []
    command = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]
    with subprocess.Popen(
        command, cwd=place, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (user,) = users_of(place)
        assert f"({process.pid})" in user
        line = in_use_message(place, "dfs umount --lazy X")
        assert user in line
        assert line.endswith("dfs umount --lazy X")
        process.communicate()
    assert users_of(place) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="umount(2) needs root")
def test_taking_off_what_is_not_mounted(tmp_path: Path) -> None:
    with pytest.raises(OSError) as caught:
        take_off(str(tmp_path))
    assert caught.value.errno == errno.EINVAL


def test_paths_that_are_not_text() -> None:
    assert printable("/plain/ü") == "/plain/ü"
    assert printable(os.fsdecode(b"/\xff")) == "/\\udcff"
