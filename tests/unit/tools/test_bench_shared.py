"""Goal: the workload of two mounts sees what is stale and what is lost, and only that. Method: two
views of one local directory, and a view that lags or that forgets."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tools.bench import peers, shared
from tools.bench.measure import SHARED, measure, summary
from tools.bench.peers import RECORDS, in_two_processes, pass_token, token
from tools.bench.shared import Change, Figure
from tools.bench.targets import Target
from tools.bench.workloads import Scale

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def views(tmp_path: Path) -> tuple[Path, Path]:
    """A local directory and another path to it."""
    real, view = tmp_path / "real", tmp_path / "view"
    real.mkdir()
    view.symlink_to(real)
    return real, view


def test_two_views_of_a_local_directory_are_never_stale_and_lose_nothing(
    views: tuple[Path, Path],
) -> None:
    target = Target("local", views)
    results = measure([target], [SHARED], 1, Scale.quick(), say=lambda _: None)
    assert results.failures == []
    rows = summary(results, [target])
    by_unit: dict[object, list[float]] = {}
    for row in rows:
        assert row["less_is_better"]
        by_unit.setdefault(row["unit"], []).append(row["median"]["local"])
    assert by_unit["% stale"] == [0] * 6
    assert by_unit["records lost"] == [0]
    assert len(by_unit["ms"]) == 8
    assert all(milliseconds > 0 for milliseconds in by_unit["ms"])
    assert list(views[0].iterdir()) == []


def test_a_view_that_lags_is_seen_to(monkeypatch: pytest.MonkeyPatch) -> None:
    sights = iter(["old", "old", "torn", "new"])
    assert shared._time_until(partial(next, sights), "new")[0] is True
    assert list(sights) == [], "it looked until it saw the new state"
    monkeypatch.setattr(shared, "GIVE_UP_S", 0.0)
    assert shared._time_until(lambda: "old", "new") == (True, 0.0)


def test_a_view_that_never_shows_the_old_state_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "GIVE_UP_S", 0.0)
    with pytest.raises(TimeoutError, match="still shows 'absent'"):
        shared.wait_until_seen(tmp_path / "missing")


@pytest.mark.parametrize("name", shared.CHANGES)
def test_each_change_begins_old_and_ends_new(name: str, views: tuple[Path, Path]) -> None:
    real, view = views
    with shared.CHANGES[name](real / "file", view / "file") as change:
        assert isinstance(change, Change)
        assert shared._looked(change.look) == change.old
        change.make()
        assert shared._looked(change.look) == change.new


def forget(path: Path, writer: str) -> None:
    """Writes as a mount does that takes its own size of the file for the file's."""
    with path.open("r+b") as file:
        file.writelines(peers.record(writer, number) for number in range(RECORDS))


def test_lost_records_are_counted(
    views: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "append_records", forget)
    monkeypatch.setattr(shared, "in_two_processes", lambda *works: [work() for work in works])
    monkeypatch.setattr(shared, "GIVE_UP_S", 0.0)
    (figure,) = shared._lost_appends(views[0] / "file", views[1] / "file")
    assert figure.value == RECORDS


def test_a_part_that_fails_does_not_hide_the_others() -> None:
    def fails() -> Iterator[Figure]:
        yield Figure("first", "ms", 1.0)
        raise OSError("gone")

    parts = shared._all_parts({"bad": fails(), "good": iter([Figure("second", "ms", 2.0)])})
    assert [next(parts).row, next(parts).row] == ["first", "second"]
    with pytest.raises(OSError, match=r"^bad: gone$"):
        next(parts)


def die(_path: Path) -> None:
    os._exit(1)


def refuse(path: Path) -> None:
    raise OSError(5, f"no {path.name}")


@pytest.mark.parametrize(("work", "message"), [(die, "without a word"), (refuse, "no file")])
def test_a_peer_that_fails_is_an_error(tmp_path: Path, work: object, message: str) -> None:
    (tmp_path / "file").write_bytes(token(0))
    assert callable(work)
    with pytest.raises(OSError, match=message):
        in_two_processes(partial(work, tmp_path / "file"), partial(os.stat, tmp_path))


def test_a_token_that_does_not_come_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "GIVE_UP_S", 0.0)
    (tmp_path / "token").write_bytes(token(0))
    with pytest.raises(TimeoutError, match="turn 1 was not seen"):
        pass_token(tmp_path / "token", "rename", [1])
