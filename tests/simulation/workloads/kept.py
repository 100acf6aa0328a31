"""What one name may lead to, as the task knows that alone changes it."""

from __future__ import annotations

from tests.simulation.checkers.synced_bytes import check_synced_bytes


class Kept:
    """A file that is written as a whole and made durable in every step, or nothing."""

    def __init__(self) -> None:
        self.change_count = 0
        """While it stays the same, whoever looks must find what `check` allows."""
        self._versions: list[bytes | None] = [None]
        """What was known last, then everything that the step under way may make of it."""

    @property
    def is_settled(self) -> bool:
        """No step is under way, and none was when a client died."""
        return len(self._versions) == 1

    @property
    def content(self) -> bytes | None:
        """What is there, between two steps."""
        assert self.is_settled, "a step is under way"
        return self._versions[0]

    def begin(self, *versions: bytes | None) -> None:
        """A step is under way that makes these of it, one after the other."""
        assert self.is_settled, "one step at a time"
        self._versions += versions
        self.change_count += 1

    def settle(self, content: bytes | None) -> None:
        """It is known now, and durable."""
        self._versions = [content]
        self.change_count += 1

    def check(self, found: bytes | None) -> str:
        """Why this cannot be there; empty when it can."""
        if found is None:
            return "" if None in self._versions else "it is gone"
        contents = [version for version in self._versions if version is not None]
        if not contents:
            return f"{len(found)} bytes are there, but nothing should be"
        return check_synced_bytes(contents, found)
