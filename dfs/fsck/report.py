"""What fsck says: one Struct, readable by people and machines."""

from __future__ import annotations

from typing import Protocol

import msgspec


class Problem(msgspec.Struct, frozen=True):
    """One thing that is not as the invariants want it."""

    check: str
    """Which check found it, and its invariant: `I6 reference counts`."""
    subject: str
    """What it is about: a path where one is known, else `inode N` or `block HEX`."""
    message: str
    is_error: bool
    """False for a warning: nothing is lost or wrong, but it should not stay so."""


class Report(msgspec.Struct):
    """What was looked at, what was found, what was mended."""

    cluster_id: str = ""
    inodes: int = 0
    directories: int = 0
    extents: int = 0
    blocks: int = 0
    """Distinct blocks that extents name."""
    copies: int = 0
    """Readable copies of those blocks."""
    verified_copies: int = 0
    """Copies that were read and hashed again, byte by byte."""
    problems: list[Problem] = []
    repaired: list[str] = []
    """What --repair did, in words."""
    unreachable: list[str] = []
    """Chunk servers that did not answer: nothing is known of their copies."""

    @property
    def errors(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.is_error]

    @property
    def is_clean(self) -> bool:
        """No errors; warnings may be left."""
        return not self.errors


class Progress(Protocol):
    """Told how far a phase is; `total` is None while nobody knows."""

    def __call__(self, phase: str, done: int, total: int | None) -> None: ...


def ignore_progress(phase: str, done: int, total: int | None) -> None:
    """For callers that show nothing."""
