"""Goal: a local cluster's directory says what it is, and wrong wishes are refused before anything
starts.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec
import pytest

from dfs.cluster import directory as directory_module
from dfs.cluster.directory import (
    SOCKET_PATH_BYTES_MAX,
    ClusterDirectory,
    ClusterSettings,
    ClusterState,
    PartState,
    agreed_settings,
    replace_file,
    roles,
    running_clusters,
)
from dfs.errors import FormatTooNew, UserError

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = ClusterSettings(chunk_servers=3, copies=2, mountpoint="/mnt/d")


@pytest.fixture(autouse=True)
def _own_runtime_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(directory_module, "runtime_directory", lambda: tmp_path / "runtime")


@pytest.fixture
def place(tmp_path: Path) -> ClusterDirectory:
    return ClusterDirectory(tmp_path / "c")


def agreed(place: ClusterDirectory, **wishes: object) -> ClusterSettings:
    asked = {"mountpoint": None, "chunk_servers": None, "copies": None, **wishes}
    return agreed_settings(place, **asked)  # type: ignore[arg-type]


def test_settings_are_kept(place: ClusterDirectory) -> None:
    assert not place.exists
    place.write_settings(SETTINGS)
    assert place.exists
    assert place.read_settings() == SETTINGS


def test_what_is_no_cluster_is_said_so(place: ClusterDirectory) -> None:
    with pytest.raises(UserError, match="no local cluster here"):
        place.read_settings()
    place.top.mkdir()
    place.settings_path.write_text("{")
    with pytest.raises(UserError, match="damaged"):
        place.read_settings()
    newer = msgspec.structs.replace(SETTINGS, format_version=99)
    place.settings_path.write_bytes(msgspec.json.encode(newer))
    with pytest.raises(FormatTooNew, match="newer dfs"):
        place.read_settings()


def test_defaults_and_wishes(place: ClusterDirectory) -> None:
    first = agreed(place)
    assert (first.chunk_servers, first.copies) == (3, 2)
    assert first.mountpoint == str(place.top / "mnt")
    assert agreed(place, chunk_servers=1).copies == 1
    place.write_settings(SETTINGS)
    assert agreed(place) == SETTINGS
    assert agreed(place, chunk_servers=5).chunk_servers == 5
    assert agreed(place, mountpoint="/mnt/e").mountpoint == "/mnt/e"


@pytest.mark.parametrize("wish", [{"chunk_servers": 2}, {"copies": 3}])
def test_what_would_lose_data_is_refused(place: ClusterDirectory, wish: dict[str, int]) -> None:
    place.write_settings(SETTINGS)
    with pytest.raises(UserError) as caught:
        agreed(place, **wish)
    assert caught.value.exit_status == 2


def test_more_copies_than_servers_are_refused(place: ClusterDirectory) -> None:
    with pytest.raises(UserError, match="at least 4 chunk servers"):
        agreed(place, copies=4)


def test_copies_before_a_write_counts() -> None:
    def least(servers: int, copies: int) -> int:
        return ClusterSettings(chunk_servers=servers, copies=copies, mountpoint="/m").min_copies

    assert [least(3, 2), least(2, 2), least(1, 1), least(5, 3), least(3, 3)] == [2, 1, 1, 3, 2]


def test_every_part_has_its_place(place: ClusterDirectory) -> None:
    names = roles(SETTINGS)
    assert names == ["meta", "chunk-0", "chunk-1", "chunk-2", "mount"]
    commands = {role: place.part_arguments(role, SETTINGS) for role in names}
    assert commands["meta"][:3] == ["meta", "--engine", f"lmdb:{place.top}/meta"]
    assert place.meta_address in commands["chunk-1"]
    assert f"{place.top}/chunk-1" in commands["chunk-1"]
    assert commands["mount"] == ["mount", str(place.top), "/mnt/d", "--foreground"]
    assert len({tuple(command) for command in commands.values()}) == len(names)


def test_sockets_of_a_long_directory_lie_elsewhere(tmp_path: Path) -> None:
    short = ClusterDirectory("/srv/c")
    assert short.socket_directory == short.run
    long = ClusterDirectory(tmp_path / ("x" * 120))
    other = ClusterDirectory(tmp_path / ("y" * 120))
    assert long.socket_directory.is_relative_to(tmp_path / "runtime")
    assert long.socket_directory != other.socket_directory
    assert len(os.fsencode(ClusterDirectory("/" + "z" * 200).socket_directory.name)) == 16
    assert SOCKET_PATH_BYTES_MAX < 108


def test_the_lock_says_who_runs(place: ClusterDirectory) -> None:
    assert not place.is_running
    lock = place.lock()
    assert lock is not None
    assert place.is_running
    assert place.lock() is None
    lock.close()
    assert not place.is_running


def test_running_clusters_are_found(place: ClusterDirectory) -> None:
    assert running_clusters() == []
    place.registry_path.parent.mkdir(parents=True)
    replace_file(place.registry_path, msgspec.json.encode(str(place.top)))
    (place.registry_path.parent / "damaged.json").write_bytes(b"{")
    assert running_clusters() == []
    lock = place.lock()
    assert lock is not None
    with lock:
        assert [found.top for found in running_clusters()] == [place.top]


def test_the_state_is_readable_or_none(place: ClusterDirectory) -> None:
    assert place.read_state() is None
    place.make_run_directories()
    assert place.socket_directory.stat().st_mode & 0o777 == 0o700
    state = ClusterState(supervisor=7, parts=(PartState(role="meta", pid=8, phase="running"),))
    replace_file(place.state_path, msgspec.json.encode(state))
    assert place.read_state() == state
    place.state_path.write_bytes(b"")
    assert place.read_state() is None
