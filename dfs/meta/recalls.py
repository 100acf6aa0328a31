"""Carries recalls out: who has to forget something is told, and changes wait until it is forgotten.

    a recall is | until
    queued      | the session's next KeepAlive takes it along
    told        | AnswerRecalls, or the session has forgotten everything: it is over, it was opened
                | again, or its client closed the link

A lost answer needs no repetition: the link broke, so one of the latter follows. Of a session whose
client has left nobody waits for an answer: when others need what it has exclusively, it ends.

After a restart nobody knows who remembers what, or has done what by itself. Everyone waits until
the strangers have returned or have expired: the sessions of whose records it is said that they may
remember something. Looking is waited with, too: a stranger may have changed what is looked at.
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
    from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping

    from dfs.core.leases import Touched
    from dfs.core.namespace.records import Record
    from dfs.types import InodeId

log = logging.getLogger(__name__)

THE_SERVER = SessionId(0)


class LeaseConflict(Exception):
    """Somebody has to forget something before the change can happen: `Recalls.make_way`, then try
    again. Without recalls, a stranger has not come back yet."""

    def __init__(
        self, touched: Touched, recalls: Mapping[SessionId, Touched], *, is_shared: bool = False
    ) -> None:
        super().__init__(touched, recalls)
        self.touched = touched
        self.recalls = recalls
        self.is_shared = is_shared
        """Nothing is to be changed, only looked at."""


class _Outbox:
    """The recalls of one session, queued and told."""

    def __init__(self) -> None:
        self.queue: deque[Recall] = deque()
        self.unanswered: dict[int, tuple[Recall, Claim, Touched, trio.Event]] = {}
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
        self._departed: dict[SessionId, None] = {}
        self.end_session: Callable[[SessionId], None] = self.forget_all
        """Ends a session whose client has left, and forgets it here."""
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
        named: Touched | None,
    ) -> Touched:
        """What these changes touch. Raises LeaseConflict if they cannot be made yet.

        `named` is what the session knows to be changed; None: all of it.
        """
        touched = touched_by(changes)
        recalls = self.leases.in_the_way(claim, own, touched, touched if named is None else named)
        if touched and (recalls or self._strangers):
            raise LeaseConflict(touched, recalls)
        return touched

    def check_sight(self, own: SessionId, inos: Collection[InodeId]) -> None:
        """Raises LeaseConflict if these cannot be looked at yet."""
        recalls = self.leases.in_sight(own, inos)
        if recalls or self._strangers:
            raise LeaseConflict({ino: set() for ino in inos}, recalls, is_shared=True)

    def upgrade(self, session_id: SessionId, wanted: Iterable[InodeId]) -> tuple[InodeId, ...]:
        """What of this the session has exclusively from now on. It has it leased, so there was no
        stranger when it was, and nobody else has."""
        leases = self.leases
        return tuple(
            ino
            for ino in wanted
            if leases.has(session_id, ino) and leases.grant_exclusive(session_id, ino)
        )

    async def make_way(self, claim: Claim, conflict: LeaseConflict) -> None:
        """Claim what is to be changed, and return when what stood in the way is forgotten."""
        self.leases.claim(claim, conflict.touched)
        answers = [
            self._recall(claim, session_id, touched, is_shared=conflict.is_shared)
            for session_id, touched in conflict.recalls.items()
        ]
        for answered in answers:
            await answered.wait()
        if self._strangers:
            log.info("others wait for %d sessions from before the restart", len(self._strangers))
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

    def _recall(
        self, claim: Claim, session_id: SessionId, touched: Touched, *, is_shared: bool
    ) -> trio.Event:
        outbox = self._outboxes.setdefault(session_id, _Outbox())
        recall = Recall(
            next(self._numbers),
            {ino: tuple(sorted(names)) for ino, names in touched.items()},
            is_shared,
        )
        answered = trio.Event()
        outbox.unanswered[recall.number] = recall, claim, touched, answered
        outbox.queue.append(recall)
        outbox.filled.set()
        if session_id in self._departed:
            self.end_session(session_id)
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
                recall, claim, touched, answered = outbox.unanswered.pop(number)
                outbox.ticks = 0
                if recall.is_shared:
                    for ino in touched:
                        self.leases.share(session_id, ino)
                else:
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
        self.come_back(session_id, ())

    def come_back(self, session_id: SessionId, exclusive: Collection[InodeId]) -> bool:
        """The session has forgotten everything but what it goes on to have exclusively. False:
        somebody else may have seen or changed some of that."""
        self.leases.give_back_all(session_id)
        # What an op makes that is yet to come is known to nobody else.
        kept = [ino for ino in exclusive if not self.leases.is_leased(ino)]
        for ino in kept:
            self.leases.take(session_id, ino)
        self._strangers.pop(session_id, None)
        self._note_strangers()
        self._departed.pop(session_id, None)
        outbox = self._outboxes.pop(session_id, None)
        if outbox is not None:
            for *_, answered in outbox.unanswered.values():
                answered.set()
            outbox.filled.set()
        return len(kept) == len(exclusive)

    def depart(self, session_id: SessionId) -> bool:
        """The session's client has left and remembers nothing, though what it did by itself may
        still come. Returns whether it has anything exclusively."""
        if not self.leases.exclusive_of(session_id):
            self.forget_all(session_id)
            return False
        self._departed[session_id] = None
        outbox = self._outboxes.get(session_id)
        if outbox is not None and outbox.unanswered:
            self.end_session(session_id)
        return True
