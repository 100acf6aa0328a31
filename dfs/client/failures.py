"""One failure, told to several tasks, and losses that every handle reports once."""

from __future__ import annotations

from typing import TypeVar

from dfs.errors import DfsError, Fenced

E = TypeVar("E", bound=DfsError)


def copy_of(error: E) -> E:
    """The same error, to be raised in another task: it gets a traceback of its own."""
    copy = error.__class__.__new__(error.__class__)
    copy.args = error.args
    copy.__dict__.update(error.__dict__)
    assert copy.errno == error.errno
    return copy


def lost_changes() -> Fenced:
    """What to raise when changes that the application was told of are gone."""
    return Fenced("changes that were not durable were lost with the session")


class LossesSeen:
    """How many losses of changes of the namespace a handle knows of."""

    def __init__(self, count: int) -> None:
        self._seen = count

    def raise_new(self, count: int) -> None:
        """Raise, once per handle and loss, that the session was lost with changes that were not
        durable (fsync(2))."""
        if count != self._seen:
            self._seen = count
            raise lost_changes()
