"""Carries recalls out: who has to forget something is told, and changes wait until it is forgotten.

    a recall is | until
    queued      | the session's next KeepAlive takes it along
    told        | AnswerRecalls, or the session has forgotten everything: it is over, it was opened
                | again, or its client closed the link

A lost answer needs no repetition: the link broke, so one of the latter follows. After a restart
nobody knows who remembers what. Changes wait until the strangers have returned or have expired: the
sessions of whose records it is said that they may remember something.
"""

from __future__ import annotations

import itertools
import logging
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from dfs.core.leases import Claim, Leases, touched_by
from dfs.core.messages import Recall
from dfs.limits import RECALLS_PER_REPLY_MAX
from dfs.types import SessionId

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from dfs.core.leases import Touched
    from dfs.core.namespace.records import Record

log = logging.getLogger(__name__)

THE_SERVER = SessionId(0)


class LeaseConflict(Exception):
    """Somebody has to forget something before the change can happen: `Recalls.make_way`, then try
    again. Without recalls, a stranger has not come back yet."""

    def __init__(self, touched: Touched, recalls: Mapping[SessionId, Touched]) -> None:
        super().__init__(touched, recalls)
        self.touched = touched
        self.recalls = recalls


class _Outbox:
    """The recalls of one session, queued and told."""

    def __init__(self) -> None:
        self.queue: deque[Recall] = deque()
        self.unanswered: dict[int, tuple[Claim, Touched, trio.Event]] = {}
        self.ticks = 0
        """Since when the oldest unanswered recall waits."""
        self.filled = trio.Event()


class Recalls:
    """All leases, and the recalls under way."""

    def __init__(self, strangers: Iterable[SessionId], *, ticks_max: int) -> None:
        """`ticks_max`: that many calls of `tick` make a session's life."""
        assert ticks_max > 0
        self.leases = Leases()
        self._ticks_max = ticks_max
        self._strangers = dict.fromkeys(strangers)
        self._numbers = itertools.count(1)
        self._outboxes: dict[SessionId, _Outbox] = {}
        self._no_stranger = trio.Event()
        self._note_strangers()

    def _note_strangers(self) -> None:
        if not self._strangers:
            self._no_stranger.set()

    # ------------------------------------------------------------ changes

    def check(
        self,
        claim: Claim | None,
        own: SessionId,
        changes: Mapping[bytes, Record | None],
        named: Touched,
    ) -> None:
        """Raises LeaseConflict if these changes cannot be made yet."""
        touched = touched_by(changes)
        if not touched:
            return
        recalls = self.leases.in_the_way(claim, own, touched, named)
        if recalls or self._strangers:
            raise LeaseConflict(touched, recalls)

    async def make_way(self, claim: Claim, conflict: LeaseConflict) -> None:
        """Claim what is to be changed, and return when what stood in the way is forgotten."""
        self.leases.claim(claim, conflict.touched)
        answers = [self._recall(claim, *each) for each in conflict.recalls.items()]
        for answered in answers:
            await answered.wait()
        if self._strangers:
            log.info("changes wait for %d sessions from before the restart", len(self._strangers))
        await self._no_stranger.wait()

    @asynccontextmanager
    async def way_for(self, touched: Touched) -> AsyncIterator[None]:
        """Inside, nobody remembers anything of this: the server itself changes it."""
        claim = Claim()
        try:
            while True:
                recalls = self.leases.in_the_way(claim, THE_SERVER, touched, {})
                is_claimed = touched.keys() <= claim.touched.keys()
                if is_claimed and not recalls and not self._strangers:
                    break
                await self.make_way(claim, LeaseConflict(touched, recalls))
            yield
        finally:
            self.leases.release(claim)

    def _recall(self, claim: Claim, session_id: SessionId, touched: Touched) -> trio.Event:
        outbox = self._outboxes.setdefault(session_id, _Outbox())
        recall = Recall(
            next(self._numbers), {ino: tuple(sorted(names)) for ino, names in touched.items()}
        )
        answered = trio.Event()
        outbox.unanswered[recall.number] = claim, touched, answered
        outbox.queue.append(recall)
        outbox.filled.set()
        return answered

    # ------------------------------------------------------------ sessions

    async def wait(self, session_id: SessionId, patience_s: float) -> tuple[Recall, ...]:
        """What the session has to be told, once there is something, or the time is over."""
        outbox = self._outboxes.setdefault(session_id, _Outbox())
        if not outbox.queue and patience_s > 0:
            with trio.move_on_after(patience_s):
                await outbox.filled.wait()
        count = min(len(outbox.queue), RECALLS_PER_REPLY_MAX)
        told = tuple(outbox.queue.popleft() for _ in range(count))
        if not outbox.queue and outbox.filled.is_set():
            outbox.filled = trio.Event()
        return told

    def answer(self, session_id: SessionId, numbers: Iterable[int]) -> None:
        """The session has forgotten what these recalls name."""
        outbox = self._outboxes.get(session_id)
        if outbox is None:
            return
        for number in numbers:
            if number in outbox.unanswered:
                claim, touched, answered = outbox.unanswered.pop(number)
                outbox.ticks = 0
                self.leases.forget(claim, session_id, touched)
                answered.set()

    def tick(self) -> list[SessionId]:
        """Sessions that have answered no recall for a session's life, told once. What they may
        remember keeps others waiting until `forget_all`."""
        deaf = []
        for session_id, outbox in self._outboxes.items():
            outbox.ticks = outbox.ticks + 1 if outbox.unanswered else 0
            if outbox.ticks == self._ticks_max:
                deaf.append(session_id)
        return deaf

    def forget_all(self, session_id: SessionId) -> None:
        """The session has forgotten everything, or is over."""
        self._strangers.pop(session_id, None)
        self._note_strangers()
        self.leases.give_back_all(session_id)
        outbox = self._outboxes.pop(session_id, None)
        if outbox is None:
            return
        for _, _, answered in outbox.unanswered.values():
            answered.set()
        outbox.filled.set()
