"""Immutable dirty bytes on their way to the cluster, and how they are grouped into commits.

A pending block is uploaded as one block (or travels inline), and committed as pieces: one per part.
Knows nothing of how the bytes were gathered (`dirty.py`), of servers or of time.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING, Final, NamedTuple

from dfs.core.namespace.ops import Piece
from dfs.limits import INLINE_BYTES_MAX, PIECES_PER_COMMIT_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dfs.types import BlockId

RUN_OVERHEAD_BYTES: Final = 256
"""What a run costs in memory beside its bytes, so that many tiny writes are bounded too."""

Range = tuple[int, int]
"""Half-open [start, end) of file offsets."""


class Part(NamedTuple):
    """Where a stretch of a pending block belongs in the file."""

    offset: int
    block_offset: int
    length: int

    @property
    def end(self) -> int:
        return self.offset + self.length


class PendingBlock:
    """Bytes on their way out, and where in the file they belong. `plain` never changes."""

    __slots__ = ("is_inline", "parts", "plain")

    def __init__(self, plain: bytes | bytearray, parts: Sequence[Part], *, is_inline: bool) -> None:
        assert plain
        assert parts
        assert sum(part.length for part in parts) == len(plain)
        assert not is_inline or parts[-1].end <= INLINE_BYTES_MAX
        self.plain = plain
        self.parts = sorted(parts)
        """By offset, disjoint. Truncation shortens or removes them."""
        self.is_inline = is_inline

    @property
    def byte_count(self) -> int:
        return len(self.plain) + RUN_OVERHEAD_BYTES * len(self.parts)

    @property
    def end(self) -> int:
        """Where its last part ends; 0 if truncation took them all."""
        return self.parts[-1].end if self.parts else 0

    def cut(self, size: int) -> None:
        """Forget what lies at or beyond `size`."""
        self.parts = [
            part if part.end <= size else part._replace(length=size - part.offset)
            for part in self.parts
            if part.offset < size
        ]
        assert self.end <= size

    def pieces(self, block_id: BlockId | None) -> list[Piece]:
        """What to commit: inline bytes, parts of the stored block, or (no block) holes."""
        assert not (self.is_inline and block_id)
        if self.is_inline:
            return [
                Piece(part.offset, part.length, inline=bytes(self.stretch(part)))
                for part in self.parts
            ]
        if block_id is None:
            return [Piece(part.offset, part.length) for part in self.parts]
        return [
            Piece(part.offset, part.length, block_id, part.block_offset, len(self.plain))
            for part in self.parts
        ]

    def stretch(self, part: Part) -> memoryview:
        return memoryview(self.plain)[part.block_offset : part.block_offset + part.length]


def commit_group(blocks: Sequence[PendingBlock]) -> int:
    """How many of the oldest blocks fit one CommitData: disjoint, and few enough pieces."""
    ranges: list[Range] = []
    for count, block in enumerate(blocks):
        if len(ranges) + len(block.parts) > PIECES_PER_COMMIT_MAX and count > 0:
            return count
        if any(_overlaps(ranges, part) for part in block.parts):
            assert count > 0
            return count
        for part in block.parts:
            insort(ranges, (part.offset, part.end))
    return len(blocks)


def _overlaps(ranges: list[Range], part: Part) -> bool:
    index = bisect_left(ranges, (part.offset, part.offset))
    if index < len(ranges) and ranges[index][0] < part.end:
        return True
    return index > 0 and ranges[index - 1][1] > part.offset
