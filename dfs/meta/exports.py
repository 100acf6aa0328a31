"""Exports: all records as of one moment, page by page, for fsck.

The engine keeps the moment; pages are read in worker threads. An export that rests for a minute is
dropped, for a moment kept alive makes the engine keep what was deleted since.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

import trio

from dfs.engine.api import SnapshotLost
from dfs.errors import FsError, Overloaded
from dfs.limits import SCAN_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dfs.engine.api import Engine, Row
    from dfs.environment import Environment

EXPORTS_MAX: Final = 8
REST_S: Final = 60.0
_START: Final = b"\0"
_END: Final = b"\xff\xff\xff\xff"


class _Export:
    def __init__(self, pages: Iterator[list[Row]]) -> None:
        self.pages = pages
        self.rest: list[Row] = []
        """Of a page that was too large for one reply."""
        self.used_s = trio.current_time()
        self.lock = trio.Lock()


class Exports:
    """The exports under way. `watch` drops those that rest."""

    def __init__(self, engine: Engine, environment: Environment) -> None:
        self._engine = engine
        self._run_blocking = environment.run_blocking
        self._exports: dict[int, _Export] = {}
        # Ids of one server's life mean nothing to the next: no export may be gone on with there.
        self._newest_id = environment.random.getrandbits(32) + 1
        self._opening_count = 0

    async def begin(self) -> int:
        """The id of a new export, as of now. Raises Overloaded."""
        if len(self._exports) + self._opening_count >= EXPORTS_MAX:
            raise Overloaded(f"{EXPORTS_MAX} exports are under way already")
        self._opening_count += 1
        try:
            pages = await self._run_blocking(self._engine.export, _START, _END)
        finally:
            self._opening_count -= 1
        self._newest_id += 1
        self._exports[self._newest_id] = _Export(pages)
        return self._newest_id

    async def next_page(self, export_id: int) -> list[Row]:
        """The next rows by key; empty after the last, and the export is gone.

        Raises FsError(ESTALE) for one that is not there (any more).
        """
        export = self._exports.get(export_id)
        if export is None:
            raise FsError(errno.ESTALE, f"export {export_id} is over: start again")
        async with export.lock:
            export.used_s = trio.current_time()
            try:
                if not export.rest:
                    export.rest = await self._run_blocking(_next_page, export.pages)
            except SnapshotLost as error:
                await self._drop(export_id)
                raise FsError(errno.ESTALE, f"export {export_id} is over: {error}") from error
            export.used_s = trio.current_time()
            page, export.rest = _split(export.rest)
            if not page:
                await self._drop(export_id)
        return page

    async def watch(self) -> None:
        """Drop exports that rest, until cancelled; then all of them."""
        try:
            while True:
                await trio.sleep(REST_S / 4)
                for export_id, export in list(self._exports.items()):
                    is_resting = trio.current_time() - export.used_s > REST_S
                    if is_resting and not export.lock.locked():
                        await self._drop(export_id)
        finally:
            with trio.CancelScope(shield=True):
                for export_id, export in list(self._exports.items()):
                    async with export.lock:
                        await self._drop(export_id)

    async def _drop(self, export_id: int) -> None:
        export = self._exports.pop(export_id, None)
        if export is not None:
            await self._run_blocking(_close, export.pages)


def _split(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    """What one reply takes, at least one row if there is one, and the rest."""
    total = 0
    for count, (key, value) in enumerate(rows):
        total += len(key) + len(value)
        if count and total > SCAN_BYTES_MAX:
            return rows[:count], rows[count:]
    return rows, []


def _next_page(pages: Iterator[list[Row]]) -> list[Row]:
    return next(pages, [])


def _close(pages: Iterator[list[Row]]) -> None:
    """A generator frees the engine's resources when it is closed; a plain iterator has none."""
    close = getattr(pages, "close", None)
    if close is not None:
        close()
