"""Goal: what happened between two looks is their difference; the mount began with nothing."""

from __future__ import annotations

from dfs.cli.rates import Interval, Share, longest_ms
from dfs.client.statistics import (
    AnswerCounts,
    BlockCacheFigures,
    CallFigures,
    ClientStatistics,
    LeaseFigures,
    OpFigures,
)
from dfs.mount.statistics import MountStatistics, RequestFigures

BEFORE = MountStatistics(
    pid=7,
    session=1,
    age_s=10.0,
    cpu_s=1.0,
    in_work_count=0,
    requests={
        "read": RequestFigures(count=5, total_s=1.0, max_s=0.9, counts_by_time=[0, 5]),
        "rmdir": RequestFigures(count=1, total_s=1.0, max_s=1.0, counts_by_time=[1]),
    },
    client=ClientStatistics(
        answers=AnswerCounts(10, 1, 20, 2),
        ops=OpFigures(done_here_count=3, asked_count=1, commit_count=1, unanswered_count=9),
        meta_calls={"Lookup": CallFigures(4, 4, 1.0), "Open": CallFigures(1, 1, 1.0)},
    ),
)
AFTER = MountStatistics(
    pid=7,
    session=1,
    age_s=12.0,
    cpu_s=2.0,
    in_work_count=3,
    requests={
        "read": RequestFigures(
            count=25, in_work_count=2, total_s=1.4, max_s=0.9, counts_by_time=[0, 5, 19, 0, 0, 1]
        ),
        "rmdir": RequestFigures(count=1, total_s=1.0, max_s=1.0, counts_by_time=[1]),
        "write": RequestFigures(in_work_count=1),
        "lookup": RequestFigures(
            count=2, total_s=0.006, max_s=0.005, counts_by_time=[0] * 12 + [2]
        ),
    },
    client=ClientStatistics(
        answers=AnswerCounts(15, 2, 20, 5),
        leases=LeaseFigures(9, 8, 7),
        ops=OpFigures(
            done_here_count=13, asked_count=2, commit_count=1, unanswered_count=4, owed_count=2
        ),
        block_cache=BlockCacheFigures(3, 1, 500),
        meta_calls={"Lookup": CallFigures(8, 6, 1.5), "Open": CallFigures(1, 1, 1.0)},
        chunk_calls={"PutBlock": CallFigures(1, 0, 0.0)},
    ),
)


def test_requests_of_an_interval() -> None:
    read, lookup, write = Interval(BEFORE, AFTER).requests()
    assert (read.name, read.total_count, read.count, read.per_s) == ("read", 25, 20, 10.0)
    assert read.mean_ms is not None
    assert abs(read.mean_ms - 20) < 1e-9
    assert (read.max_ms, read.is_max_exact) == (0.032, False)
    assert (lookup.name, lookup.max_ms, lookup.is_max_exact) == ("lookup", 5.0, True)
    assert (write.name, write.count, write.in_work_count) == ("write", 0, 1)
    assert (write.mean_ms, write.max_ms) == (None, None)


def test_calls_of_an_interval() -> None:
    lookup, put = Interval(BEFORE, AFTER).calls()
    assert (lookup.server, lookup.name, lookup.total_count) == ("metadata", "Lookup", 8)
    assert (lookup.count, lookup.per_s, lookup.mean_ms) == (4, 2.0, 250.0)
    assert (put.server, put.count, put.mean_ms) == ("chunk", 1, None)


def test_the_rest_of_an_interval() -> None:
    interval = Interval(BEFORE, AFTER)
    assert (interval.seconds, interval.cpu_share) == (2.0, 0.5)
    assert interval.lookups == Share(5, 6)
    assert interval.getattrs == Share(0, 3)
    assert interval.frames == Share(3, 4)
    assert interval.ops == OpFigures(
        done_here_count=10, asked_count=1, commit_count=0, unanswered_count=4, owed_count=2
    )


def test_from_the_beginning_on_it_is_everything() -> None:
    interval = Interval(MountStatistics(), AFTER)
    names = {row.name: row.count for row in interval.requests()}
    assert names == {"read": 25, "lookup": 2, "rmdir": 1, "write": 0}
    assert all(row.is_max_exact for row in interval.requests() if row.count)
    assert interval.seconds == AFTER.age_s


def test_the_longest_is_never_more_than_the_longest_ever() -> None:
    before = RequestFigures(count=1, max_s=0.0000009, counts_by_time=[1])
    assert longest_ms(before, before) is None
    after = RequestFigures(count=2, max_s=0.0000009, counts_by_time=[2])
    assert longest_ms(before, after) == 0.0009
