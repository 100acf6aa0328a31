"""What a client has done so far and has at present, as values that programs can read.

Counters (`_count` and `waited_s`) grow from 0 as long as the process lives; the rest is as of now.
Everything has a default, so that a program reads what an older or newer client tells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from dfs.limits import NS_PER_S

if TYPE_CHECKING:
    from dfs.client.block_cache import BlockCache
    from dfs.client.op_stream import OpStream
    from dfs.client.record_cache import RecordCache
    from dfs.rpc.call_counts import CallCounts


class AnswerCounts(msgspec.Struct):
    """Lookups and getattrs: a hit was answered from what is leased, a miss asked the server."""

    lookup_hit_count: int = 0
    lookup_miss_count: int = 0
    getattr_hit_count: int = 0
    getattr_miss_count: int = 0


class LeaseFigures(msgspec.Struct, frozen=True):
    """What is leased now."""

    inode_count: int = 0
    exclusive_count: int = 0
    """Of these inodes, those that are this client's alone."""
    name_count: int = 0

    @classmethod
    def of(cls, records: RecordCache) -> LeaseFigures:
        return cls(*records.counts())


class OpFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Ops so far, and those that are on their way."""

    done_here_count: int = 0
    """The application was told at once."""
    asked_count: int = 0
    """The application waited for the server."""
    commit_count: int = 0
    """CommitData, of which no application waits but by fsync or close."""
    unanswered_count: int = 0
    """In the journal now."""
    owed_count: int = 0
    """Of these, those that were done here."""

    @classmethod
    def of(cls, ops: OpStream) -> OpFigures:
        return cls(
            done_here_count=ops.done_here_count,
            asked_count=ops.asked_count,
            commit_count=ops.commit_count,
            unanswered_count=len(ops.journal),
            owed_count=ops.journal.owed_count,
        )


class BlockCacheFigures(msgspec.Struct, frozen=True):
    """Frames that readers found in memory or had fetched."""

    hit_count: int = 0
    miss_count: int = 0
    byte_count: int = 0
    """Memory that they take now."""

    @classmethod
    def of(cls, cache: BlockCache) -> BlockCacheFigures:
        return cls(cache.hit_count, cache.miss_count, cache.byte_count)


class CallFigures(msgspec.Struct, frozen=True):
    """Requests of one class to servers of one kind."""

    sent_count: int = 0
    answered_count: int = 0
    waited_s: float = 0.0
    """For all answers together."""


def call_figures(counts: CallCounts) -> dict[str, CallFigures]:
    """By the name of the request's class, sorted."""
    return {
        name: CallFigures(
            sent_count, counts.answered[name], round(counts.waited_ns[name] / NS_PER_S, 6)
        )
        for name, sent_count in sorted(counts.sent.items())
    }


class ClientStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The whole client."""

    answers: AnswerCounts = msgspec.field(default_factory=AnswerCounts)
    leases: LeaseFigures = LeaseFigures()
    ops: OpFigures = OpFigures()
    block_cache: BlockCacheFigures = BlockCacheFigures()
    dirty_bytes: int = 0
    promised_count: int = 0
    """Closed files whose data is not committed and that others are to find all the same."""
    meta_calls: dict[str, CallFigures] = {}
    """Requests to metadata servers."""
    chunk_calls: dict[str, CallFigures] = {}
    """Requests to chunk servers."""
