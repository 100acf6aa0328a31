"""Bytes of one file that a client has and the cluster does not: what to upload, what to commit.

Dirty bytes are *live* while the application may still change them in place, and *pending* from the
moment they are taken for upload: then they are immutable, keep their order, and are let go by
`settle` once committed. Newer bytes lie over older ones: committed < pending in order < live.

    state     enters by          leaves by
    live      write              take_full, take_rest → pending · truncate → gone
    pending   take_full, _rest   settle (committed), clear (lost) · truncate cuts it

Knows nothing of servers, tasks or time.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dfs.core.pending import RUN_OVERHEAD_BYTES, Part, PendingBlock, Range
from dfs.limits import (
    BLOCK_BYTES_MAX,
    BLOCK_BYTES_MIN,
    FRAME_BYTES,
    INLINE_BYTES_MAX,
    PIECES_PER_COMMIT_MAX,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PACKED_RUN_BYTES_MAX: Final = FRAME_BYTES
"""Runs shorter than this share a block, so that scattered writes do not become many uploads."""


@dataclass(slots=True)
class _Run:
    """Adjacent dirty bytes inside one aligned span."""

    start: int
    data: bytearray

    @property
    def end(self) -> int:
        return self.start + len(self.data)


class DirtyFile:
    """Dirty bytes of one file, live and pending."""

    def __init__(self, block_bytes: int) -> None:
        assert BLOCK_BYTES_MIN <= block_bytes <= BLOCK_BYTES_MAX
        assert block_bytes & (block_bytes - 1) == 0
        self._block_bytes = block_bytes
        self._spans: dict[int, list[_Run]] = {}
        """Span index → its runs, by offset, never touching. In order of each span's first byte."""
        self._live_bytes = 0
        self._pending: list[PendingBlock] = []
        self._pending_bytes = 0
        self._end: int | None = 0

    @property
    def byte_count(self) -> int:
        """Memory that the dirty bytes take."""
        return self._live_bytes + self._pending_bytes

    @property
    def live_bytes(self) -> int:
        return self._live_bytes

    @property
    def is_clean(self) -> bool:
        return not self._spans and not self._pending

    @property
    def pending(self) -> Sequence[PendingBlock]:
        """Oldest first."""
        return self._pending

    @property
    def end(self) -> int:
        """Where the last dirty byte ends; 0 when clean. The file is at least this long."""
        if self._end is None:
            ends = [block.end for block in self._pending]
            ends += [runs[-1].end for runs in self._spans.values()]
            self._end = max(ends, default=0)
        return self._end

    @property
    def fits_records(self) -> bool:
        """All of it is live, and may travel inline."""
        return bool(self._spans) and not self._pending and self.end <= INLINE_BYTES_MAX

    # ------------------------------------------------------------ changes

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> list[int]:
        """Take new bytes. Returns the spans that are now dirty from end to end, to be taken."""
        assert offset >= 0
        view = memoryview(data)
        end, full = offset + len(view), []
        position = offset
        while position < end:
            index = position // self._block_bytes
            stop = min(end, (index + 1) * self._block_bytes)
            runs = self._spans.setdefault(index, [])
            self._put(runs, position, view[position - offset : stop - offset])
            if len(runs[0].data) == self._block_bytes:
                full.append(index)
            position = stop
        if len(view) > 0 and self._end is not None:
            self._end = max(self._end, end)
        return full

    def _put(self, runs: list[_Run], start: int, view: memoryview) -> None:
        """Lay `view` over a span's runs and join those that now touch."""
        end = start + len(view)
        first = bisect_left(runs, start, key=lambda run: run.end)
        last = bisect_right(runs, end, key=lambda run: run.start)
        touched = runs[first:last]
        self._live_bytes -= sum(_cost(run) for run in touched)
        if touched and touched[0].start <= start:
            run = touched[0]
        else:
            run = _Run(start, bytearray())
        run.data[start - run.start : end - run.start] = view
        if touched and touched[-1] is not run and touched[-1].end > end:
            run.data += touched[-1].data[end - touched[-1].start :]
        runs[first:last] = [run]
        self._live_bytes += _cost(run)
        assert run.start <= start
        assert run.end >= end
        assert self._live_bytes > 0

    def truncate(self, size: int) -> None:
        """Forget all dirty bytes at or beyond `size`, live and pending."""
        assert size >= 0
        for index in list(self._spans):
            runs = self._spans[index]
            self._live_bytes -= sum(_cost(run) for run in runs)
            kept = [run for run in runs if run.start < size]
            if kept and kept[-1].end > size:
                del kept[-1].data[size - kept[-1].start :]
            self._live_bytes += sum(_cost(run) for run in kept)
            if kept:
                self._spans[index] = kept
            else:
                del self._spans[index]
        for block in self._pending:
            self._pending_bytes -= block.byte_count
            block.cut(size)
            self._pending_bytes += block.byte_count
        self._end = None
        assert self._live_bytes >= 0
        assert self.end <= size

    def clear(self) -> None:
        """Forget everything: the bytes are lost."""
        self._spans.clear()
        self._pending.clear()
        self._live_bytes = self._pending_bytes = 0
        self._end = 0
        assert self.is_clean

    # ------------------------------------------------------------ on their way out

    def take_full(self, index: int) -> PendingBlock:
        """Make a span that is dirty from end to end pending, without copying it."""
        (run,) = self._spans.pop(index)
        assert len(run.data) == self._block_bytes
        self._live_bytes -= _cost(run)
        part = Part(run.start, 0, self._block_bytes)
        return self._add(PendingBlock(run.data, [part], is_inline=False))

    def take_rest(self) -> list[PendingBlock]:
        """Make all live bytes pending: spans in the order in which they became dirty."""
        taken: list[PendingBlock] = []
        packed: list[_Run] = []
        for runs in self._spans.values():
            for run in runs:
                if run.end <= INLINE_BYTES_MAX:
                    taken.append(_block_of([run], is_inline=True))
                elif len(run.data) >= PACKED_RUN_BYTES_MAX:
                    taken.append(_block_of([run]))
                else:
                    packed.append(run)
        taken += [_block_of(group) for group in _packed(packed, self._block_bytes)]
        self._spans.clear()
        self._live_bytes = 0
        for block in taken:
            self._add(block)
        return taken

    def _add(self, block: PendingBlock) -> PendingBlock:
        assert len(block.plain) <= self._block_bytes
        assert len(block.parts) <= PIECES_PER_COMMIT_MAX
        self._pending.append(block)
        self._pending_bytes += block.byte_count
        return block

    def settle(self, block: PendingBlock) -> None:
        """Let go of a block that is committed, or that truncation emptied."""
        self._pending.remove(block)
        self._pending_bytes -= block.byte_count
        self._end = None
        assert self._pending_bytes >= 0

    # ------------------------------------------------------------ reading

    def read_into(self, offset: int, target: bytearray) -> list[Range]:
        """Copy the newest dirty bytes of [offset, offset + len(target)) to their places in it.

        Returns what is not dirty: ranges by offset, may be empty.
        """
        end = offset + len(target)
        covered: list[Range] = []
        view = memoryview(target)
        for start, stretch in self._stretches(offset, end):
            low, high = max(start, offset), min(start + len(stretch), end)
            assert low < high
            view[low - offset : high - offset] = stretch[low - start : high - start]
            covered.append((low, high))
        return gaps_between(offset, end, covered)

    def clean_ranges(self, start: int, end: int) -> list[Range]:
        """What of [start, end) is not dirty: ranges by offset, may be empty."""
        assert start <= end
        if self.is_clean:
            return [(start, end)] if start < end else []
        covered = [(low, low + len(data)) for low, data in self._stretches(start, end)]
        return gaps_between(start, end, covered)

    def _stretches(self, start: int, end: int) -> Iterator[tuple[int, memoryview]]:
        """Dirty stretches that touch [start, end), older before newer."""
        for block in self._pending:
            for part in block.parts:
                if part.offset < end and part.end > start:
                    yield part.offset, block.stretch(part)
        if start >= end or not self._spans:
            return
        for index in range(start // self._block_bytes, (end - 1) // self._block_bytes + 1):
            runs = self._spans.get(index, [])
            first = bisect_right(runs, start, key=lambda run: run.end)
            last = bisect_left(runs, end, key=lambda run: run.start)
            for run in runs[first:last]:
                yield run.start, memoryview(run.data)


def gaps_between(start: int, end: int, covered: Sequence[Range]) -> list[Range]:
    """What `covered` (any order, may overlap) leaves of [start, end)."""
    gaps, position = [], start
    for low, high in sorted(covered):
        if low > position:
            gaps.append((position, min(low, end)))
        position = max(position, high)
        if position >= end:
            break
    if position < end:
        gaps.append((position, end))
    assert all(low < high for low, high in gaps)
    return gaps


def _cost(run: _Run) -> int:
    return len(run.data) + RUN_OVERHEAD_BYTES


def _packed(runs: Sequence[_Run], block_bytes: int) -> Iterator[list[_Run]]:
    """Short runs in groups that share a block, at most one commit's pieces each."""
    group: list[_Run] = []
    total = 0
    for run in runs:
        is_full = len(group) == PIECES_PER_COMMIT_MAX or total + len(run.data) > block_bytes
        if group and is_full:
            yield group
            group, total = [], 0
        group.append(run)
        total += len(run.data)
    if group:
        yield group


def _block_of(runs: Sequence[_Run], *, is_inline: bool = False) -> PendingBlock:
    """A pending block of these runs, one behind the other."""
    parts, position = [], 0
    for run in runs:
        parts.append(Part(run.start, position, len(run.data)))
        position += len(run.data)
    plain = runs[0].data if len(runs) == 1 else b"".join(run.data for run in runs)
    assert len(plain) == position
    return PendingBlock(plain, parts, is_inline=is_inline)
