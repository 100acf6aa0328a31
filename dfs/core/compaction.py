"""Which segment to compact next, from how much of each is still needed. Pure."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec

from dfs.core.segments import SEGMENT_HEADER_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence


class SegmentUsage(msgspec.Struct, array_like=True):
    """How much of a segment is needed. Owner: the chunk server's index."""

    number: int
    end_bytes: int
    """Where its indexed records end."""
    live_bytes: int = 0
    """Bytes of put records that the index points to."""
    tombstone_bytes: dict[int, int] = {}
    """Bytes of tombstones, by the segment whose copies they kill: needed while that one exists."""
    is_removed: bool = False
    """Nothing of it is needed and its file is going away."""

    @property
    def needed_bytes(self) -> int:
        """Bytes that a compaction must copy."""
        return self.live_bytes + sum(self.tombstone_bytes.values())

    @property
    def dead_bytes(self) -> int:
        dead = self.end_bytes - SEGMENT_HEADER_BYTES - self.needed_bytes
        assert dead >= 0
        return dead


def choose_compaction(
    sealed: Sequence[SegmentUsage], *, free_bytes: int, is_space_short: bool
) -> SegmentUsage | None:
    """The sealed segment to compact next, or None. `free_bytes` may be filled by the copies.

    Segments without a needed byte come first, lowest number first: a tombstone is dropped with the
    last segment it names, so what it kills must be gone before. Then the lowest one of those that
    are more than half dead, which finishes a compaction that a crash interrupted. When space is
    short, the one that gives back most for its copying, if at least a tenth is dead.
    """
    assert all(a.number < b.number for a, b in pairwise(sealed))
    assert not any(usage.is_removed for usage in sealed)
    for usage in sealed:
        if usage.needed_bytes == 0:
            return usage
    fitting = [usage for usage in sealed if usage.needed_bytes <= free_bytes]
    for usage in fitting:
        if usage.dead_bytes > usage.needed_bytes:
            return usage
    if not is_space_short:
        return None
    worthwhile = [usage for usage in fitting if usage.dead_bytes * 10 >= usage.end_bytes]
    return min(worthwhile, key=lambda usage: (usage.needed_bytes, usage.number), default=None)
