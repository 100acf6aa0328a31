"""One failure, told to several tasks."""

from __future__ import annotations

from typing import TypeVar

from dfs.errors import DfsError

E = TypeVar("E", bound=DfsError)


def copy_of(error: E) -> E:
    """The same error, to be raised in another task: it gets a traceback of its own."""
    copy = error.__class__.__new__(error.__class__)
    copy.args = error.args
    copy.__dict__.update(error.__dict__)
    assert copy.errno == error.errno
    return copy
