"""What two looks at a mount's statistics say of the time between them.

Pure. The first look may be `MountStatistics()`, the mount's beginning: then it is all there was.
"""

from __future__ import annotations

import msgspec

from dfs.client.statistics import AnswerCounts, BlockCacheFigures, CallFigures, OpFigures
from dfs.mount.statistics import MountStatistics, RequestFigures


class RequestRow(msgspec.Struct, frozen=True):
    """Requests of one type."""

    name: str
    total_count: int
    """Since the mount began."""
    count: int
    per_s: float
    mean_ms: float | None
    """None: none was answered."""
    max_ms: float | None
    is_max_exact: bool
    """False: `max_ms` is less than twice the longest time."""
    in_work_count: int


class CallRow(msgspec.Struct, frozen=True):
    """Requests of one class to one kind of server."""

    server: str
    name: str
    total_count: int
    count: int
    per_s: float
    mean_ms: float | None


class Share(msgspec.Struct, frozen=True):
    """So many of so many."""

    count: int
    whole: int


class Interval:
    """The time between two looks at one mount."""

    def __init__(self, before: MountStatistics, after: MountStatistics) -> None:
        assert before.pid in (0, after.pid)
        assert before.age_s <= after.age_s
        self.before, self.after = before, after
        self.seconds = max(after.age_s - before.age_s, 1e-6)

    @property
    def cpu_share(self) -> float:
        """Of one processor."""
        return (self.after.cpu_s - self.before.cpu_s) / self.seconds

    def requests(self) -> list[RequestRow]:
        """What there was any of, or is; the most first."""
        nothing = RequestFigures()
        rows = [
            self._request_row(name, self.before.requests.get(name, nothing), after)
            for name, after in self.after.requests.items()
        ]
        moved = [row for row in rows if row.count or row.in_work_count]
        return sorted(moved, key=lambda row: (-row.count, row.name))

    def _request_row(self, name: str, before: RequestFigures, after: RequestFigures) -> RequestRow:
        count = after.count - before.count
        longest = longest_ms(before, after)
        return RequestRow(
            name=name,
            total_count=after.count,
            count=count,
            per_s=count / self.seconds,
            mean_ms=(after.total_s - before.total_s) / count * 1e3 if count else None,
            max_ms=longest,
            is_max_exact=after.max_s > before.max_s,
            in_work_count=after.in_work_count,
        )

    def calls(self) -> list[CallRow]:
        """The same of messages: to metadata servers, then to chunk servers."""
        before, after = self.before.client, self.after.client
        return [
            *self._call_rows("metadata", before.meta_calls, after.meta_calls),
            *self._call_rows("chunk", before.chunk_calls, after.chunk_calls),
        ]

    def _call_rows(
        self, server: str, before: dict[str, CallFigures], after: dict[str, CallFigures]
    ) -> list[CallRow]:
        rows = []
        for name, now in after.items():
            then = before.get(name, CallFigures())
            count, answered = now.sent_count - then.sent_count, now.answered_count
            answered -= then.answered_count
            mean_ms = (now.waited_s - then.waited_s) / answered * 1e3 if answered else None
            per_s = count / self.seconds
            rows.append(CallRow(server, name, now.sent_count, count, per_s, mean_ms))
        return sorted((row for row in rows if row.count), key=lambda row: (-row.count, row.name))

    @property
    def lookups(self) -> Share:
        """Answered from leases, of all."""
        answers = self._answers
        hits, misses = answers.lookup_hit_count, answers.lookup_miss_count
        return Share(hits, hits + misses)

    @property
    def getattrs(self) -> Share:
        """The same."""
        answers = self._answers
        hits, misses = answers.getattr_hit_count, answers.getattr_miss_count
        return Share(hits, hits + misses)

    @property
    def _answers(self) -> AnswerCounts:
        before, after = self.before.client.answers, self.after.client.answers
        return AnswerCounts(
            after.lookup_hit_count - before.lookup_hit_count,
            after.lookup_miss_count - before.lookup_miss_count,
            after.getattr_hit_count - before.getattr_hit_count,
            after.getattr_miss_count - before.getattr_miss_count,
        )

    @property
    def frames(self) -> Share:
        """Found in the block cache, of all that readers asked for."""
        before: BlockCacheFigures = self.before.client.block_cache
        after: BlockCacheFigures = self.after.client.block_cache
        hits = after.hit_count - before.hit_count
        return Share(hits, hits + after.miss_count - before.miss_count)

    @property
    def ops(self) -> OpFigures:
        """Ops of the interval; those on their way as of now."""
        before, after = self.before.client.ops, self.after.client.ops
        return OpFigures(
            done_here_count=after.done_here_count - before.done_here_count,
            asked_count=after.asked_count - before.asked_count,
            commit_count=after.commit_count - before.commit_count,
            unanswered_count=after.unanswered_count,
            owed_count=after.owed_count,
        )


def longest_ms(before: RequestFigures, after: RequestFigures) -> float | None:
    """The longest time of a request between two looks: exactly if it was the longest ever, else
    the end of its bucket. None: there was none."""
    if after.max_s > before.max_s:
        return after.max_s * 1e3
    then = [*before.counts_by_time, *[0] * len(after.counts_by_time)]
    grown = [b for b, count in enumerate(after.counts_by_time) if count > then[b]]
    return min(2 ** grown[-1] / 1e3, after.max_s * 1e3) if grown else None
