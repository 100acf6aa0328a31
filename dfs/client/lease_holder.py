"""Keeps the session alive, and answers recalls: what others want to change is forgotten here first.

One KeepAlive is always under way. The server answers it when it recalls something, or after a
while; so recalls come as fast as any answer, and each answer proves how long leases are good.

A recall is answered when what was done here is durable, when data of closed files is committed, and
when nobody remembers what it names. Data that cannot be committed for long is not waited for.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from dfs.core.messages import AnswerRecalls, KeepAlive, KeepAliveReply, Recall
from dfs.errors import DfsError, Fenced
from dfs.limits import KEEP_ALIVE_S

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from dfs.client.record_cache import RecordCache
    from dfs.client.session import MetaLink, MetaSession
    from dfs.types import InodeId

logger = logging.getLogger(__name__)

RETRY_PAUSE_S: Final = 0.1
GOOD_SHARE: Final = 0.6
"""Of the time after which the server ends a silent session: so long leases are good after a sign of
life that was answered. The rest is for clocks that do not run alike."""
GIVEN_BACK_PER_MESSAGE_MAX: Final = 1000
DATA_PATIENCE_SHARE: Final = 0.3
"""Of the time after which the server fences a session that does not answer: so long a recall waits
for data."""


async def _nowhere(_: Collection[InodeId] | None) -> None:
    """Nobody was told of anything."""


class LeaseHolder:
    """One session's signs of life and recalls. `run` carries it."""

    def __init__(self, session: MetaSession, records: RecordCache) -> None:
        self._session = session
        self._records = records
        self._wait_s = KEEP_ALIVE_S
        self._session_ttl_s = 0.0
        self.forget_elsewhere: Callable[[Collection[InodeId] | None], Awaitable[None]] = _nowhere
        """Makes whoever was told of leased records forget these inodes and the names in them, or
        everything (None)."""
        self.commit_data: Callable[[Collection[InodeId]], Awaitable[None]] = _nowhere
        """Commits what was written here to these files, if they were this client's alone."""

    def begin(self, session_ttl_s: float, sent_s: float) -> None:
        """The session was opened, by a request that was sent at `sent_s`."""
        assert session_ttl_s > 0
        self._session_ttl_s = session_ttl_s
        self._wait_s = min(KEEP_ALIVE_S, session_ttl_s / 4)
        self._extend(sent_s)

    def _extend(self, sent_s: float) -> None:
        good_until_s = sent_s + GOOD_SHARE * self._session_ttl_s
        self._records.good_until_s = max(self._records.good_until_s, good_until_s)

    async def run(self) -> None:
        """Say that this client lives, again and again, until cancelled."""
        while True:
            link = await self._session.wait_link(float("inf"))
            if not await self._keep_alive(link, self._wait_s):
                await self._session.pause(RETRY_PAUSE_S)

    async def ask_news(self, link: MetaLink) -> None:
        """Learn now what the server has to tell. Says nothing if it does not answer."""
        await self._keep_alive(link, 0)

    async def _keep_alive(self, link: MetaLink, wait_s: float) -> bool:
        """Whether an answer came."""
        session, records = self._session, self._records
        given_back = await self.take_given_back()
        sent_s = trio.current_time()
        try:
            with session.ops.telling_holds() as holds:
                request = KeepAlive(
                    session_id=link.session_id,
                    map_epoch=session.cluster_map.map_epoch,
                    given_back=given_back,
                    holds=holds,
                    wait_s=wait_s,
                )
                reply = await session.call(link, request)
        except Fenced as error:
            session.lose_session(link, str(error))
            return False
        except DfsError as error:
            logger.info("no answer to a keep-alive: %s", error)
            return False
        if not isinstance(reply, KeepAliveReply):
            session.break_link(link, f"it answered KeepAlive with {reply!r:.80}")
        if not session.is_linked_by(link) or not isinstance(reply, KeepAliveReply):
            return False
        self._extend(sent_s)
        session.take_news(reply)
        if reply.recalls:
            alone = {
                ino for recall in reply.recalls for ino in recall.touched if records.is_alone(ino)
            }
            for recall in reply.recalls:
                records.recall(recall)
            session.start_soon(partial(self._answer, link, reply.recalls, alone))
        return True

    async def take_given_back(self) -> tuple[InodeId, ...]:
        """Leases for which there was no room. The server is to be told by the next message."""
        dropped = self._records.dropped(GIVEN_BACK_PER_MESSAGE_MAX)
        if dropped:
            await self.forget_elsewhere(dropped)
        return self._records.take_given_back(dropped)

    async def forget_all(self) -> None:
        """Nothing is leased any more, and nobody remembers anything."""
        self._records.forget_all()
        await self.forget_elsewhere(None)

    async def _answer(
        self, link: MetaLink, recalls: tuple[Recall, ...], alone: set[InodeId]
    ) -> None:
        """`alone`: what was exclusively this client's until now."""
        try:
            await self._session.ops.settled()
            with trio.move_on_after(DATA_PATIENCE_SHARE * self._session_ttl_s):
                await self.commit_data(alone)
        except DfsError as error:
            self._session.break_link(link, f"what others wait for cannot be told: {error}")
            return
        forgotten = [recall.touched for recall in recalls if not recall.is_shared]
        if forgotten:
            await self.forget_elsewhere([ino for touched in forgotten for ino in touched])
        numbers = tuple(recall.number for recall in recalls)
        try:
            with self._session.ops.telling_holds() as holds:
                request = AnswerRecalls(session_id=link.session_id, numbers=numbers, holds=holds)
                await self._session.call(link, request)
        except Fenced as error:
            self._session.lose_session(link, str(error))
        except DfsError as error:
            # Without an answer the link is of no use, and with a new one all leases are gone.
            self._session.break_link(link, str(error))
