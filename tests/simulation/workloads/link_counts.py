"""How many names files must have, and which bytes, while several clients change both."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TEXT_BYTES = (60, 5000)
"""Of files with an even and an odd number: inline, and in a block."""


def text_of(number: int, version: int) -> bytes:
    """What the file holds as of that version; always as long."""
    size = TEXT_BYTES[number % len(TEXT_BYTES)]
    return (b"file %03d version %05d. " % (number, version) * (size // 20 + 1))[:size]


@dataclass(eq=False)
class Bounds:
    """What a link count may be, of all moments since someone began to look."""

    low: int
    high: int

    def check(self, nlink: int) -> str:
        """Why this cannot be the count; empty when it can."""
        if self.low <= nlink <= self.high:
            return ""
        return f"{nlink} links, not {self.low} … {self.high}"


@dataclass(eq=False)
class Reading:
    """What a file may hold, of all moments since someone began to read."""

    texts: set[bytes] = field(default_factory=set)

    def check(self, found: bytes) -> str:
        """Why these cannot be the bytes; empty when they can."""
        if found in self.texts:
            return ""
        wanted = ", ".join(sorted(repr(text[:22]) for text in self.texts))
        return f"{len(found)} bytes {found[:22]!r}, not {wanted}"


class LinkedFiles:
    """What all tasks know of the files that they share."""

    def __init__(self, count: int) -> None:
        self.inos: dict[int, int] = {}
        self.making = trio.Lock()
        self.change_count = 0
        """Changes of names that have begun or ended."""
        self._count = count
        self._names: dict[int, int] = {}
        """How many names each file has for certain, as of the ops that have ended."""
        self._changes: dict[str, Mapping[int, int]] = {}
        """By task: what the op under way changes, if it happens."""
        self._bounds: list[tuple[int, Bounds]] = []
        self._versions: dict[int, int] = {}
        self._writers: dict[int, str] = {}
        self._readings: list[tuple[int, Reading]] = []

    def missing(self) -> list[int]:
        return [number for number in range(self._count) if number not in self.inos]

    def add(self, number: int, ino: int) -> None:
        """A file is there, under one name."""
        self.inos[number] = ino
        self._names[number], self._versions[number] = 1, 0

    # ------------------------------------------------------------ names

    @property
    def is_quiet(self) -> bool:
        """No name is being changed, or in doubt."""
        return not self._changes and not self.missing()

    def begin(self, task: str, changes: Mapping[int, int]) -> None:
        """The task asks for a change, which may happen from now on."""
        self.change_count += 1
        self._changes[task] = changes
        for number, bounds in self._bounds:
            bounds.low += min(0, changes.get(number, 0))
            bounds.high += max(0, changes.get(number, 0))

    def end(self, task: str, *, has_happened: bool) -> None:
        """What became of it is known."""
        self.change_count += 1
        changes = self._changes.pop(task)
        if has_happened:
            for number, change in changes.items():
                self._names[number] += change

    @contextmanager
    def watching(self, number: int) -> Iterator[Bounds]:
        """What the link count may be while one looks."""
        changes = [each.get(number, 0) for each in self._changes.values()]
        low = self._names[number] + sum(min(0, change) for change in changes)
        high = self._names[number] + sum(max(0, change) for change in changes)
        entry = (number, Bounds(low, high))
        self._bounds.append(entry)
        try:
            yield entry[1]
        finally:
            self._bounds.remove(entry)

    def check_names(self, counts: Mapping[int, int]) -> str:
        """Why these are not the numbers of names by inode; empty when they are."""
        assert self.is_quiet
        wrong = {
            number: counts.get(ino, 0)
            for number, ino in self.inos.items()
            if counts.get(ino, 0) != self._names[number]
        }
        strange = counts.keys() - set(self.inos.values())
        parts = (("files with another number of names", wrong), ("strange inodes", strange))
        return "; ".join(f"{what}: {which}" for what, which in parts if which)

    # ------------------------------------------------------------ bytes

    def begin_write(self, number: int, task: str) -> bytes:
        """New bytes for the task to write; none if another is writing."""
        if number in self._writers:
            return b""
        self._writers[number] = task
        text = text_of(number, self._versions[number] + 1)
        for each, reading in self._readings:
            if each == number:
                reading.texts.add(text)
        return text

    def end_write(self, number: int, task: str) -> None:
        """The bytes are synced."""
        assert self._writers.pop(number) == task
        self._versions[number] += 1

    def written_by(self, task: str) -> list[int]:
        """Files that the task was writing."""
        return [number for number, writer in self._writers.items() if writer == task]

    def settle_write(self, number: int, task: str, found: bytes) -> str:
        """After the task's client died, this was found. Why it cannot be; empty when it can."""
        problem = Reading(self._texts(number)).check(found)
        has_happened = found == text_of(number, self._versions[number] + 1)
        self.end_write(number, task)
        if not has_happened:
            self._versions[number] -= 1
        return problem

    @contextmanager
    def reading(self, number: int) -> Iterator[Reading]:
        """What the bytes may be while one reads."""
        entry = (number, Reading(self._texts(number)))
        self._readings.append(entry)
        try:
            yield entry[1]
        finally:
            self._readings.remove(entry)

    def _texts(self, number: int) -> set[bytes]:
        version = self._versions[number]
        versions = [version, version + 1] if number in self._writers else [version]
        return {text_of(number, each) for each in versions}
