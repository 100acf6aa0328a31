"""Bytes of an open file: dirty ones, inline ones, holes, and pieces of blocks, newest first.

A read never shows bytes older than the last answer about the file: extents are used only while the
inode's `data_version` is unchanged. Between looking at dirty data and extents and starting to fetch
there is no await, so that a commit cannot move bytes from the one to the other unseen.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio

from dfs.core.messages import ExtentsReply, ReadExtents
from dfs.errors import BlockNotFound, CorruptBlock, Disconnected
from dfs.limits import GIB

if TYPE_CHECKING:
    from dfs.client.fetcher import Fetcher
    from dfs.client.open_files import OpenFile
    from dfs.client.session import MetaSession
    from dfs.core.namespace.records import Extent
    from dfs.core.pending import Range

logger = logging.getLogger(__name__)

EXTENTS_WINDOW_BYTES: Final = 4 * GIB
"""Extents are asked for at least this far ahead; the server bounds the answer."""
RETRY_PAUSE_S: Final = 0.5


class Reader:
    """Reads files through the fetcher."""

    def __init__(self, session: MetaSession, fetcher: Fetcher) -> None:
        self._session = session
        self._fetcher = fetcher

    async def read(self, file: OpenFile, offset: int, length: int) -> bytes:
        """Bytes [offset, offset + length), less at the end of the file.

        Raises FsError(ESTALE); CorruptBlock, BlockNotFound or Disconnected (EIO) when a block
        cannot be had, naming it and the servers.
        """
        assert offset >= 0
        assert length >= 0
        deadline_s = trio.current_time() + self._session.patience_s
        while True:
            await self._learn(file, offset, offset + length)
            # No await from here until the fetches have begun.
            end = min(offset + length, file.size)
            if end <= offset:
                return b""
            target = bytearray(end - offset)
            extents = _wanted(file, file.dirty.read_into(offset, target))
            version = file.record.data_version
            try:
                await self._fill(target, offset, extents)
                return bytes(target)
            except (BlockNotFound, CorruptBlock, Disconnected) as error:
                await self._look_again(file, version, deadline_s, error)

    async def _learn(self, file: OpenFile, start: int, end: int) -> None:
        """Make the extents known of what is not dirty."""
        file.extents.trim()
        while gaps := _unknown(file, start, end):
            low = gaps[0][0]
            high = max(gaps[-1][1], low + EXTENTS_WINDOW_BYTES)
            request = ReadExtents(ino=file.ino, start=low, end=high)
            reply = await self._session.ask(request, ExtentsReply)
            assert reply.end > low
            file.note_extents(reply.inode, low, reply.end, reply.extents)

    async def _look_again(
        self, file: OpenFile, version: int, deadline_s: float, error: Exception
    ) -> None:
        """After a block could not be had: it may have been replaced and collected. Raises `error`
        when it is still the file's and waiting does not help."""
        file.extents.forget()
        request = ReadExtents(ino=file.ino, start=0, end=1)
        reply = await self._session.ask(request, ExtentsReply)
        file.note(reply.inode)
        map_epoch = self._session.cluster_map.map_epoch
        await self._session.refresh_map()
        has_changed = reply.inode.data_version != version
        if has_changed or self._session.cluster_map.map_epoch != map_epoch:
            return
        if not isinstance(error, Disconnected) or trio.current_time() >= deadline_s:
            raise error
        logger.info("trying on: %s", error)
        await self._session.pause(RETRY_PAUSE_S)

    async def _fill(self, target: bytearray, offset: int, extents: list[Extent]) -> None:
        """Put the extents' bytes in their places; several blocks are fetched at once."""
        stored = []
        for extent in extents:
            if extent.is_inline:
                start = extent.offset - offset
                target[start : start + extent.length] = extent.inline
            else:
                stored.append(extent)
        if len(stored) == 1:
            await self._fetch(target, offset, stored[0])
            return
        failures: list[Exception] = []
        async with trio.open_nursery() as nursery:

            async def fetch(extent: Extent) -> None:
                try:
                    await self._fetch(target, offset, extent)
                except (BlockNotFound, CorruptBlock, Disconnected) as error:
                    failures.append(error)
                    nursery.cancel_scope.cancel()

            for extent in stored:
                nursery.start_soon(fetch, extent)
        if failures:
            raise failures[0]

    async def _fetch(self, target: bytearray, offset: int, extent: Extent) -> None:
        block_end = extent.block_offset + extent.length
        plain = await self._fetcher.read(extent.block_id, extent.block_offset, block_end)
        assert len(plain) == extent.length
        start = extent.offset - offset
        target[start : start + extent.length] = plain

    def prefetch(self, file: OpenFile, start: int, end: int) -> None:
        """Have [start, end) brought into the cache, as far as its extents are known."""
        end = min(end, file.record.size)
        if start < end:
            unknown = file.extents.unknown(start, end)
            end = unknown[0][0] if unknown else end
        if start >= end:
            return
        for extent in file.extents.touching(start, end):
            if not extent.is_inline:
                block_end = extent.block_offset + extent.length
                self._fetcher.prefetch(extent.block_id, extent.block_offset, block_end)


def _unknown(file: OpenFile, start: int, end: int) -> list[Range]:
    """What of [start, end) is neither dirty nor known nor beyond the end."""
    end = min(end, file.record.size)
    if start >= end:
        return []
    clean = file.dirty.clean_ranges(start, end)
    return [gap for low, high in clean for gap in file.extents.unknown(low, high)]


def _wanted(file: OpenFile, clean: list[Range]) -> list[Extent]:
    """Extents of the ranges that are not dirty, cut to them. What they leave out reads as zeros."""
    size = file.record.size
    return [
        extent
        for low, high in clean
        if low < size
        for extent in file.extents.touching(low, min(high, size))
    ]
