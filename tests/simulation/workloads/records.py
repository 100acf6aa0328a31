"""Records that say who wrote them, and which of them must be in a file that many append to."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, NamedTuple

from tests.simulation.checkers.verified_reads import check_read

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = 32
"""Bytes of a record's head: writer, number, size, checksum of the rest."""


class Record(NamedTuple):
    """The `count`-th record of a writer, of `size` bytes in all."""

    writer: int
    count: int
    size: int

    def encoded(self) -> bytes:
        line = b"%d/%d " % (self.writer, self.count)
        body = (line * (self.size // len(line) + 1))[: self.size - HEAD]
        head = b"%4d %8d %7d %08x\n" % (self.writer, self.count, self.size, zlib.crc32(body))
        return head.ljust(HEAD) + body


class Log:
    """What all writers know: who has the lock, and what was appended."""

    def __init__(self) -> None:
        self._holder = ""
        self._synced: list[Record] = []
        """In order, if there is a lock."""
        self._under_way: dict[str, list[Record]] = {}
        self._doubtful: set[Record] = set()
        """Their writer died before they were synced: they may be there or not."""
        self._content = bytearray()

    @property
    def end_bytes(self) -> int:
        """Where the synced records end, if they are in order."""
        return len(self._content)

    def lock(self, name: str) -> str:
        """This task has got the lock. Why it should not have; empty if it is right."""
        holder, self._holder = self._holder, name
        return f"{holder} has the lock" if holder else ""

    def unlock(self, name: str) -> None:
        """This task is about to let it go."""
        if self._holder == name:
            self._holder = ""

    def begin(self, name: str, record: Record) -> None:
        self._under_way.setdefault(name, []).append(record)

    def end(self, name: str) -> None:
        """What this task appended is synced."""
        for record in self._under_way.pop(name):
            self._synced.append(record)
            self._content += record.encoded()

    def see_death(self, name: str) -> None:
        """The task's client died."""
        self._doubtful.update(self._under_way.pop(name, []))

    # ------------------------------------------------------------ checks

    def check_tail(self, start: int, found: bytes) -> str:
        """Why these are not the bytes from `start` to the end; empty when they are."""
        problem = check_read(bytes(self._content[start:]), found)
        return f"read from {start}: {problem}" if problem else ""

    def check(self, content: bytes, *, is_ordered: bool) -> str:
        """Why this is not the file; empty when it is. If not ordered, records of one writer are."""
        if is_ordered:
            return self.check_tail(0, content)
        records = list(_decoded(content))
        if None in records:
            return f"record {records.index(None) + 1} is torn"
        lost = [record for record in self._synced if record not in records]
        if lost:
            return f"{lost[0]} is lost"
        last: dict[int, int] = {}
        for record in records:
            assert record is not None
            if record not in self._synced and record not in self._doubtful:
                return f"{record} was never written"
            if record.count <= last.get(record.writer, 0):
                return f"{record} is out of order, or comes twice"
            last[record.writer] = record.count
        return ""


def _decoded(content: bytes) -> Iterator[Record | None]:
    """The records in a file, up to the first that is none."""
    at = 0
    while at < len(content):
        words = content[at : at + HEAD].split()
        if len(words) != 4 or not all(word.isdigit() for word in words[:3]):
            yield None
            return
        record = Record(*(int(word) for word in words[:3]))
        if content[at : at + record.size] != record.encoded():
            yield None
            return
        yield record
        at += record.size
