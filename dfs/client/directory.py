"""Listing directories of any size, a page per message, with cookies that stay valid.

A cookie is the position behind an entry in this handle's stream. The stream is remembered: the
names of recent pages, so that reading on from a recent cookie is exact though entries were removed
meanwhile; of older pages only where they begin. Listing again from a page whose entries are no
longer at hand continues the stream from there with what the directory holds then.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from dfs.client.failures import LossesSeen
from dfs.core.messages import DirectoryReply, ReadDirectory
from dfs.limits import DIRECTORY_PAGES_KEPT, READDIR_ENTRIES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable

    from dfs.client.session import MetaSession
    from dfs.core.messages import DirectoryEntry
    from dfs.core.namespace.records import Inode
    from dfs.types import InodeId

PAGES_WITH_ATTRIBUTES: Final = 2


class Entry(NamedTuple):
    """A name in a directory, its inode's attributes, and where to read on."""

    name: bytes
    inode: Inode
    next_cookie: int


@dataclass(eq=False, slots=True)
class _Page:
    start: int
    """Cookie before its first entry."""
    after: bytes
    """The name that the page begins behind."""
    count: int
    is_last: bool
    names: tuple[bytes, ...] | None
    """None in an old page."""
    entries: tuple[DirectoryEntry, ...] | None
    """None but in the newest pages."""

    @property
    def end(self) -> int:
        return self.start + self.count


class DirectoryHandle:
    """One open directory (opendir(3))."""

    def __init__(self, inode: Inode, lost_ops: int = 0) -> None:
        self.inode = inode
        """As it was when it was opened."""
        self.losses = LossesSeen(lost_ops)
        self.reading = trio.Lock()
        self._pages: list[_Page] = []

    @property
    def ino(self) -> InodeId:
        return self.inode.ino

    def forget(self) -> None:
        """Nothing more will be read."""
        self._pages.clear()

    async def page_at(self, session: MetaSession, cookie: int) -> list[Entry]:
        """Entries from `cookie` to the end of its page; empty at the end of the directory.

        Cookie 0 reads the directory anew (rewinddir(3)).
        """
        assert cookie >= 0
        async with self.reading:
            if cookie == 0:
                self._pages.clear()
            page = self._page_of(cookie)
            if page is None or page.entries is None:
                page = await self._ask(session, cookie, page)
        assert page.entries is not None
        skipped = cookie - page.start
        return [
            Entry(entry.name, entry.inode, cookie + index)
            for index, entry in enumerate(page.entries[skipped:], 1)
        ]

    def _page_of(self, cookie: int) -> _Page | None:
        """The page that holds the entry behind the cookie, or the last one of the directory."""
        index = bisect_right(self._pages, cookie, key=lambda page: page.start) - 1
        if index < 0:
            return None
        page = self._pages[index]
        return page if cookie < page.end or page.is_last else None

    async def _ask(self, session: MetaSession, cookie: int, page: _Page | None) -> _Page:
        """Read a page that begins at the cookie; what was known behind it is forgotten."""
        start, after = self._resume(cookie, page)
        reply = await self._ask_entries(session, after)
        self._pages = [known for known in self._pages if known.start < start]
        if self._pages and self._pages[-1].end > start:
            self._shorten(self._pages[-1], start)
        names = tuple(entry.name for entry in reply.entries)
        fresh = _Page(start, after, len(names), reply.is_last, names, reply.entries)
        self._pages.append(fresh)
        for old in self._pages[:-PAGES_WITH_ATTRIBUTES]:
            old.entries = None
        for old in self._pages[:-DIRECTORY_PAGES_KEPT]:
            old.names = None
        return fresh

    async def _ask_entries(self, session: MetaSession, after: bytes) -> DirectoryReply:
        records = session.records
        if records.owed:
            # Not only of the directory: its entries come with their attributes.
            await session.ops.settled()
        request = ReadDirectory(
            session_id=session.session_id, ino=self.ino, after=after, limit=READDIR_ENTRIES_MAX
        )
        with records.asking() as question:
            reply = await session.ask(request, DirectoryReply)
            exclusive = frozenset(reply.exclusive)
            for entry in reply.entries if reply.is_leased else ():
                inode = entry.inode
                records.note_inode(question, inode, is_exclusive=inode.ino in exclusive)
                records.note_entry(question, self.ino, entry.name, inode.ino)
        return reply

    def _resume(self, cookie: int, page: _Page | None) -> tuple[int, bytes]:
        """Where a page can begin that is to hold the cookie, and the name before it."""
        if page is None:
            if not self._pages or cookie == 0:
                # A cookie of another handle: nothing better is known than the beginning.
                return cookie, b""
            page = self._pages[-1]
            cookie = min(cookie, page.end)
        if page.names is None:
            return page.start, page.after
        if cookie == page.start:
            return cookie, page.after
        return cookie, page.names[cookie - page.start - 1]

    def _shorten(self, page: _Page, end: int) -> None:
        page.count = end - page.start
        page.is_last = False
        page.names = page.names[: page.count] if page.names is not None else None
        page.entries = page.entries[: page.count] if page.entries is not None else None
        assert page.end == end


class Listing:
    """Entries of a directory from a cookie on, page by page. An async iterator, to be left at any
    point (an async generator would have to be closed)."""

    def __init__(
        self,
        handle: DirectoryHandle,
        session: MetaSession,
        current: Callable[[Inode], Inode],
        cookie: int,
    ) -> None:
        self._handle = handle
        self._session = session
        self._current = current
        self._cookie = cookie
        self._page: deque[Entry] = deque()

    def __aiter__(self) -> Listing:
        return self

    async def __anext__(self) -> tuple[bytes, Inode, int]:
        """Name, attributes as this client knows them, and the cookie behind the entry."""
        if not self._page:
            self._page.extend(await self._handle.page_at(self._session, self._cookie))
        if not self._page:
            raise StopAsyncIteration
        entry = self._page.popleft()
        assert entry.next_cookie > self._cookie
        self._cookie = entry.next_cookie
        return entry.name, self._current(entry.inode), entry.next_cookie
