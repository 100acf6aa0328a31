"""Telling the parent why a background process did not get ready."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from dfs.background import ReadyLine, tell_parent
from dfs.cli.main import error_line, exit_status_of, expected_error

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def telling_parent(ready_fd: int | None) -> Iterator[None]:
    """Passes every error on, after the parent (if it still listens) has heard of it."""
    try:
        yield
    except Exception as error:
        expected = expected_error(error)
        words = error_line(expected) if expected else f"{type(error).__name__}: {error}"
        tell_parent(ready_fd, ReadyLine(error=words, exit_status=exit_status_of(error)))
        raise
