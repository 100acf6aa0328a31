"""Goal: a profile finds what runs, one at a time, for a bounded time, and leaves nothing behind."""

from __future__ import annotations

import errno
import sys
import threading

import pytest

from dfs.errors import FsError
from dfs.mount.profiler import SECONDS_MAX, Profiler
from dfs.mount.samples import Samples

SHORT_S = 0.05


def busy_until_over(profiler: Profiler) -> None:
    while profiler.state.is_running:
        sum(range(100))


def test_it_finds_what_runs() -> None:
    profiler = Profiler(lambda: True)
    assert profiler.state.number == 0
    interval_s = sys.getswitchinterval()
    assert profiler.start(SHORT_S) == 1
    busy_until_over(profiler)
    profiler.wait()
    assert sys.getswitchinterval() == interval_s
    report = profiler.state.report
    assert report is not None
    assert report.look_count >= 1
    assert report.seconds >= SHORT_S
    assert busy_until_over.__name__ in {one.name for one in report.most_total}
    assert not [each for each in threading.enumerate() if each.name == "dfs-profiler"]


def test_one_at_a_time_and_bounded() -> None:
    profiler = Profiler(lambda: False)
    for seconds in (0, -1, SECONDS_MAX + 1, float("nan")):
        with pytest.raises(FsError) as caught:
            profiler.start(seconds)
        assert caught.value.errno == errno.EINVAL
    assert profiler.start(SHORT_S) == 1
    with pytest.raises(FsError) as caught:
        profiler.start(SHORT_S)
    assert caught.value.errno == errno.EBUSY
    profiler.wait()
    assert profiler.start(SHORT_S) == 2
    assert profiler.state.report is None
    profiler.wait()


def test_one_that_fails_does_not_run_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    failures: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", failures.append)
    monkeypatch.delattr(Samples, "note_loop")
    profiler = Profiler(lambda: False)
    interval_s = sys.getswitchinterval()
    profiler.start(SHORT_S)
    profiler.wait()
    assert (profiler.state.is_running, profiler.state.report) == (False, None)
    assert sys.getswitchinterval() == interval_s
    assert len(failures) == 1
