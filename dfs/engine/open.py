"""An engine by its URL, as the command line names it: `lmdb:DIR` or `memory:`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfs.engine.lmdb_engine import LmdbEngine
from dfs.engine.memory_engine import MemoryEngine
from dfs.errors import UserError

if TYPE_CHECKING:
    from dfs.engine.api import Engine


def open_engine(url: str, *, is_read_only: bool = False) -> Engine:
    """The engine that `url` names.

    Raises UserError: exit status 2 for a URL that makes no sense, 1 for a directory that cannot be
    used; EngineBusy, EngineDamaged, FormatTooNew, NoSpace.
    """
    kind, colon, rest = url.partition(":")
    if kind == "memory" and colon and not rest:
        return MemoryEngine()
    if kind == "lmdb" and rest:
        try:
            return LmdbEngine(rest, is_read_only=is_read_only)
        except OSError as error:
            raise UserError(f"cannot use {rest}: {error.strerror}") from error
    raise UserError(f"unknown engine {url!r}: use lmdb:DIR or memory:", exit_status=2)
