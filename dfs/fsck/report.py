"""What fsck says: one Struct, readable by people and machines."""

from __future__ import annotations

from collections import Counter
from typing import Protocol

import msgspec

LISTED_MAX = 1000
"""Problems of one check that are listed one by one; of the others the number is said."""


class Problem(msgspec.Struct, frozen=True):
    """One thing that is not as the invariants want it."""

    check: str
    """Which check found it, with its invariant where it has a number: `I6 reference counts`."""
    subject: str
    """What it is about: a path where one is known, else `inode N` or `block HEX`."""
    message: str
    is_error: bool
    """False for a warning: nothing is lost or wrong, but it should not stay so."""


class Report(msgspec.Struct):
    """What was looked at, what was found, what was mended: the state after the last repair."""

    cluster_id: str = ""
    inodes: int = 0
    directories: int = 0
    orphans: int = 0
    """Inodes without a name: held open, or about to be taken apart. No problem."""
    extents: int = 0
    blocks: int = 0
    """Distinct blocks that extents name."""
    copies: int = 0
    """Readable copies of those blocks."""
    verified_copies: int = 0
    """Copies that were read and hashed again, byte by byte."""
    error_count: int = 0
    warning_count: int = 0
    problems: list[Problem] = []
    """At most LISTED_MAX of each check; then one line says how many more there are."""
    repaired: list[str] = []
    """What --repair did, in words."""
    unreachable: list[str] = []
    """Chunk servers that could not be asked, `ID at ADDRESS: reason`. Nothing is known of their
    copies."""

    @property
    def errors(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.is_error]

    @property
    def is_clean(self) -> bool:
        """No errors; warnings may be left."""
        assert bool(self.errors) == bool(self.error_count)
        return not self.error_count


class Problems:
    """Gathers problems for a report; memory stays bounded however damaged a volume is."""

    def __init__(self) -> None:
        self._listed: list[Problem] = []
        self._counts: Counter[tuple[str, bool]] = Counter()

    def add(self, check: str, subject: str, message: str, *, is_error: bool = True) -> None:
        assert check
        assert "\n" not in subject + message
        self._counts[check, is_error] += 1
        if self._counts[check, is_error] <= LISTED_MAX:
            self._listed.append(Problem(check, subject, message, is_error))

    def write_to(self, report: Report) -> None:
        """Put them into a report, and what they add up to."""
        report.problems = list(self._listed)
        for (check, is_error), count in self._counts.items():
            if count > LISTED_MAX:
                message = f"{count - LISTED_MAX} more like these"
                report.problems.append(Problem(check, "others", message, is_error))
        report.error_count = self._count(is_error=True)
        report.warning_count = self._count(is_error=False)

    def _count(self, *, is_error: bool) -> int:
        return sum(count for (_, is_one), count in self._counts.items() if is_one is is_error)


class Progress(Protocol):
    """Told how far a phase is; `total` is None while nobody knows."""

    def __call__(self, phase: str, done: int, total: int | None) -> None: ...


def ignore_progress(phase: str, done: int, total: int | None) -> None:
    """For callers that show nothing."""
