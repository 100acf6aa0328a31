"""Goal: `up` and `down` refuse what cannot be, before anything is started or stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from dfs.cluster import control
from dfs.cluster.control import down, up
from dfs.cluster.directory import ClusterDirectory, ClusterSettings, ClusterState, PartState
from dfs.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClusterDirectory:
    def never(*_: object) -> int:
        raise AssertionError("nothing may be started")

    monkeypatch.setattr(control, "start_in_background", never)
    return ClusterDirectory(tmp_path / "c")


def settings_at(tmp_path: Path) -> ClusterSettings:
    return ClusterSettings(chunk_servers=3, copies=2, mountpoint=str(tmp_path / "m"))


def run_up(place: ClusterDirectory, **wishes: object) -> control.UpReport:
    asked = {"mountpoint": None, "chunk_servers": None, "copies": None, **wishes}
    return up(place, progress=lambda _: None, **asked)  # type: ignore[arg-type]


def test_a_mount_point_with_files_is_refused(place: ClusterDirectory, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "file").touch()
    with pytest.raises(UserError, match="not empty"):
        run_up(place, mountpoint=str(tmp_path / "m"))
    assert not place.exists


def test_a_running_cluster_is_left_alone(
    place: ClusterDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write_settings(settings_at(tmp_path))
    monkeypatch.setattr(control, "missing_parts", lambda directory, settings: [])
    lock = place.lock()
    assert lock is not None
    with lock:
        report = run_up(place)
        assert (report.is_new, report.chunk_servers, report.copies) == (False, 3, 2)
        with pytest.raises(UserError, match="dfs mount"):
            run_up(place, mountpoint=str(tmp_path / "other"))
        with pytest.raises(UserError, match="dfs down"):
            run_up(place, chunk_servers=4)
    assert place.read_settings() == settings_at(tmp_path)


def test_a_part_that_cannot_start_is_named(
    place: ClusterDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped: list[bool] = []

    def start(arguments: list[str], log: Path) -> int:
        part = PartState(role="meta", failures=9, problem="dfs: the disk is on fire")
        state = ClusterState(supervisor=1, parts=(part,))
        place.state_path.write_bytes(msgspec.json.encode(state))
        return 1

    def stop(directory: ClusterDirectory, **_: object) -> None:
        stopped.append(True)

    monkeypatch.setattr(control, "start_in_background", start)
    monkeypatch.setattr(control, "down", stop)
    monkeypatch.setattr(control, "missing_parts", lambda directory, settings: ["everything"])
    with pytest.raises(UserError, match="meta does not start: the disk is on fire"):
        run_up(place, mountpoint=str(tmp_path / "m"))
    assert stopped == [True]


def test_down_of_what_does_not_run(place: ClusterDirectory, tmp_path: Path) -> None:
    place.write_settings(settings_at(tmp_path))
    assert not down(place, is_lazy=False, progress=lambda _: None).was_running


def test_down_while_in_use_does_nothing(
    place: ClusterDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write_settings(settings_at(tmp_path))
    monkeypatch.setattr(control, "find_mount", lambda path: object())
    monkeypatch.setattr(control, "users_of", lambda path: ["vi (7)"])
    with pytest.raises(UserError, match="in use"):
        down(place, is_lazy=False, progress=lambda _: None)
