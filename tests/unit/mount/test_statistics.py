"""Goal: counts and times of requests are what was noted, and fit into an attribute's value."""

from __future__ import annotations

import itertools

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from dfs.limits import XATTR_VALUE_BYTES_MAX
from dfs.mount.fuse import FuseOperations
from dfs.mount.statistics import (
    MountStatistics,
    RequestFigures,
    Requests,
    RequestTimes,
    TapFigures,
    tap_figures,
)
from tests.unit.mount.fusetap.fake_tap import FakeTap

LONG_S = 1e8


@given(st.lists(st.floats(0, LONG_S), max_size=50))
def test_times_are_summed_and_sorted_by_powers_of_two(seconds: list[float]) -> None:
    times = RequestTimes()
    for each in seconds:
        times.started_count += 1
        times.note(each)
    figures = RequestFigures.of(times)
    assert figures.count == len(seconds)
    assert figures.in_work_count == 0
    assert figures.max_s == round(max(seconds, default=0.0), 6)
    assert abs(figures.total_s - sum(seconds)) < 1e-5 + 1e-9 * sum(seconds)
    for bucket, count in enumerate(figures.counts_by_time):
        low, high = (1 << bucket) >> 1, 1 << bucket
        assert count == sum(low <= int(each * 1e6) < high for each in seconds)
    assert sum(figures.counts_by_time) == len(seconds)
    assert not figures.counts_by_time or figures.counts_by_time[-1]


def test_requests_that_are_worked_on() -> None:
    requests = Requests()
    read, never = requests.times_of("read"), requests.times_of("never")
    assert requests.times_of("read") is read is not never
    read.started_count += 3
    read.note(0.002)
    asking = requests.times_of("getxattr")
    asking.started_count += 1
    assert requests.in_work_count == 3
    figures = requests.figures(asking="getxattr")
    assert sorted(figures) == ["getxattr", "read"], "only what there was"
    assert figures["read"].in_work_count == 2
    assert figures["getxattr"].in_work_count == 0
    assert requests.figures()["getxattr"].in_work_count == 1
    first_s = requests.age_s
    assert requests.age_s >= first_s >= 0


def test_the_tap_is_asked_for_its_counters() -> None:
    assert isinstance(tap_figures(FakeTap().status()), TapFigures)
    status = {"library": "x", "request_count": 9, "found_count": 5, "vain_count": 3}
    assert tap_figures(status) == TapFigures(9, 5, 3, 0)


def test_the_largest_numbers_fit_into_a_value() -> None:
    handlers = [name for name in vars(FuseOperations) if not name.startswith("_")]
    most = RequestFigures(
        count=2**63, in_work_count=96, total_s=1e9, max_s=1e9, counts_by_time=[2**50] * 48
    )
    found = MountStatistics(requests=dict(zip(handlers, itertools.repeat(most), strict=False)))
    assert len(found.requests) > 25
    assert len(msgspec.json.encode(found)) < XATTR_VALUE_BYTES_MAX / 1.5


def test_what_an_older_mount_did_not_tell_is_nothing() -> None:
    assert msgspec.json.decode(b"{}", type=MountStatistics) == MountStatistics()
