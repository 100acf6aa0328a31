"""Sessions as clients see them: opened, kept alive, closed, or expired when they fall silent (I7).

| a session is | and requests of it are |
|---|---|
| open, on one link | done if they come by that link, else answered Disconnected: open it again |
| known from before a restart | answered Disconnected, until it is opened again |
| expired or closed | answered Fenced |
| deaf: it does not answer a recall | answered Fenced; it expires when its leases surely have |
| departed: its client has closed the link | ended when others need what it has exclusively |

A session belongs to the link on which it was opened last. So whatever lingers on an older link can
change nothing any more: no late release lets go of what was opened since.

Ending one is decided in one step without an await: from then on it is unknown and nothing more of
it is applied, so an opening that races with the end either comes first or finds nothing. What it
held is let go only once its end is durable: if the server restarts before, it may come back.
"""

from __future__ import annotations

import contextlib
import logging
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import trio
from msgspec.structs import replace

from dfs.core.messages import NO_SESSION, OpenSession, SessionStatus
from dfs.core.namespace.keys import COUNTERS_KEY, session_key
from dfs.core.namespace.records import Counters, SessionRecord
from dfs.errors import Disconnected, Fenced, Overloaded
from dfs.limits import INODE_RANGE_COUNT, KERNEL_MEMORY_S, SESSIONS_MAX
from dfs.meta.committer import SETBACKS
from dfs.meta.streams import OpStream
from dfs.types import InodeId, OpNumber, SessionId

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dfs.core.leases import Claim
    from dfs.core.namespace.records import Inode
    from dfs.core.namespace.view import Overlay
    from dfs.core.sessions import Lifetimes
    from dfs.meta.record_store import RecordStore
    from dfs.meta.streams import Applier

log = logging.getLogger(__name__)

NO_LINK: Final = 0
FORGOTTEN_AFTER_S: Final = 1.2 * KERNEL_MEMORY_S
CLIENT_CHARACTERS_MAX: Final = 255
"""Of what a client calls itself."""


class LinkLike(Protocol):
    """The link that a request came by; rpc's Connection is one."""

    number: int


class Session:
    """One client's session: its op stream, and the link it is on."""

    def __init__(self, record: SessionRecord, applier: Applier, link_number: int) -> None:
        self.session_id: SessionId = record.session_id
        self.client = record.client
        self.stream = OpStream(record, applier)
        self.link_number = link_number
        self.has_left = record.has_left
        """Its client has closed the link in order, and is not back."""
        self.opening = 0
        """The newest of its client's openings."""
        self.ended_link = NO_LINK
        """The newest of its links that ended."""
        self.is_deaf = False
        """It had a session's whole life to answer a recall, and did not."""

    @property
    def may_remember(self) -> bool:
        """It may be given leases: its record says so, or is about to say that no more."""
        return self.stream.may_remember

    @may_remember.setter
    def may_remember(self, value: bool) -> None:
        self.stream.may_remember = value


class Sessions:
    """All sessions. `watch` carries their ends."""

    def __init__(
        self,
        store: RecordStore,
        applier: Applier,
        lifetimes: Lifetimes,
        records: Iterable[SessionRecord],
    ) -> None:
        self._store = store
        self._applier = applier
        self._committer = applier.committer
        self._holds = applier.holds
        self._reaper = applier.reaper
        self._recalls = applier.recalls
        self._lifetimes = lifetimes
        self._recalls.end_session = self._end_departed
        self._sessions: dict[SessionId, Session] = {}
        self._by_link: dict[int, SessionId] = {}
        """The session that was opened last on a link, until the link ends."""
        self._ended: dict[SessionId, None] = {}
        """Ended sessions whose records are still there."""
        for record in records:
            self._sessions[record.session_id] = Session(record, applier, NO_LINK)
            lifetimes.begin(record.session_id, trio.current_time(), is_absent=True)

    def of(self, session_id: SessionId, link: LinkLike) -> Session:
        """The session of a request; it is a sign of life.

        Raises Fenced when there is none (any more), Disconnected when it has to be opened again.
        """
        session = self._sessions.get(session_id)
        if session is None or session.is_deaf:
            raise _fenced(session_id)
        if session.link_number != link.number:
            raise Disconnected(f"session {session_id} has to be opened again on this link")
        self._lifetimes.hear(session_id, trio.current_time())
        return session

    def on(self, link: LinkLike) -> SessionId:
        """Whose link it is; NO_SESSION for one without a session."""
        return self._by_link.get(link.number, NO_SESSION)

    # ------------------------------------------------------------ beginning

    async def open(self, request: OpenSession, link: LinkLike) -> tuple[Session, SessionRecord]:
        """A new session, durable, or the one that comes back, and its record.

        Raises Fenced for one that has ended; Overloaded; NoSpace.
        """
        if request.session_id:
            return await self._come_back(request, link)
        if len(self._sessions) >= SESSIONS_MAX:
            raise Overloaded(f"there are {SESSIONS_MAX} sessions already")
        record = await self._committer.commit(lambda overlay: _begin(overlay, request))
        self._store.hand_out(record.first_ino, record.end_ino)
        session = Session(record, self._applier, link.number)
        session.opening = request.opening
        self._sessions[session.session_id] = session
        self._by_link[link.number] = session.session_id
        self._lifetimes.begin(session.session_id, trio.current_time())
        log.info("session %d begins: %s", session.session_id, session.client)
        return session, record

    async def _come_back(
        self, request: OpenSession, link: LinkLike
    ) -> tuple[Session, SessionRecord]:
        session = self._sessions.get(request.session_id)
        if session is None or session.is_deaf:
            raise _fenced(request.session_id)
        if request.opening < session.opening:
            raise Disconnected(f"session {session.session_id} was opened on a newer link")
        session.opening = request.opening
        session.link_number = link.number
        session.has_left = False
        self._by_link[link.number] = session.session_id
        # A client forgets what it had leased when it loses the link, but for what it owes ops of.
        exclusive = dict.fromkeys(request.exclusive)
        if not self._recalls.come_back(session.session_id, exclusive):
            self._end(session.session_id, "others went on with what it had exclusively")
            raise _fenced(request.session_id)
        self._lifetimes.hear(session.session_id, trio.current_time())
        freed = self._holds.replace(session.session_id, request.held)
        self._lifetimes.come_back(session.session_id)
        self._reaper.note_freed(freed)
        self._reaper.wake()
        key = session_key(session.session_id)
        record = await self._committer.read(lambda view: view.get(key, SessionRecord))
        is_as_written = record is not None and not record.has_left
        if record is not None and not (
            is_as_written and record.may_remember == session.may_remember == request.wants_leases
        ):
            # They differ while the record is yet to say that nothing is remembered any more.
            record = await self._let_remember(session, is_wanted=request.wants_leases)
        if record is None or session.session_id not in self._sessions:
            raise _fenced(session.session_id)
        return session, record

    async def _let_remember(self, session: Session, *, is_wanted: bool) -> SessionRecord | None:
        """The session may be given leases once its record says so; if that cannot be written, it
        does without."""
        session.may_remember = is_wanted
        try:
            return await self._committer.commit(lambda overlay: _note_memory(overlay, session))
        except SETBACKS as error:
            log.warning("session %d gets no leases: %s", session.session_id, error)
            session.may_remember = False
            key = session_key(session.session_id)
            return await self._committer.read(lambda view: view.get(key, SessionRecord))

    async def take_range(self, session: Session) -> SessionRecord:
        """The session's record with inode numbers that nobody was ever given. Raises NoSpace."""
        record = await self._committer.commit(
            lambda overlay: _give_range(overlay, session.session_id)
        )
        self._store.hand_out(record.first_ino, record.end_ino)
        return record

    # ------------------------------------------------------------ holds

    def release(self, session: Session, inos: Iterable[InodeId]) -> None:
        """The session no longer holds these."""
        self._reaper.note_freed(self._holds.drop(session.session_id, inos))

    def lease(
        self, session_id: SessionId, link: LinkLike, inode: Inode, claim: Claim | None
    ) -> bool:
        """From this moment on the session may remember the inode, if it is still on this link and
        nobody but `claim` is about to change the inode. What has no name is not worth it."""
        session = self._sessions.get(session_id)
        if session is None or session.is_deaf or session.link_number != link.number:
            return False
        if not session.may_remember or inode.nlink == 0:
            return False
        return self._recalls.leases.grant(session_id, inode.ino, claim)

    def link_ended(self, link: LinkLike, is_orderly: bool) -> None:
        """A link is gone. What its client has sent and still waits is not done behind its back: if
        it lives it sends that again, and if not its successor can trust what it finds.

        A client forgets its leases before it closes a link in order, and the kernel of a process
        that died forgets soon. Of a client whose link broke neither is known.
        """
        session = self._sessions.get(self._by_link.pop(link.number, NO_SESSION))
        if session is None or session.link_number != link.number:
            return
        session.link_number = NO_LINK
        session.stream.drop_waiting(Disconnected("the link is gone"))
        session.ended_link = link.number
        if is_orderly:
            session.has_left = True
            self._applier.spawn(partial(self._forget_soon, session, link.number))

    async def _forget_soon(self, session: Session, link_number: int) -> None:
        """Then nobody waits for the session, and no server that starts after this one either. What
        it has exclusively is kept for its client until others need it."""
        with contextlib.suppress(*SETBACKS):
            # A server that starts after this one need not wait for long either.
            await self._committer.commit(lambda overlay: _note_memory(overlay, session))
        await trio.sleep(FORGOTTEN_AFTER_S)
        has_come_back = session.link_number != NO_LINK or session.ended_link != link_number
        if has_come_back or session.session_id not in self._sessions:
            return
        if self._recalls.depart(session.session_id):
            return
        session.may_remember = False
        with contextlib.suppress(*SETBACKS):
            await self._committer.commit(lambda overlay: _note_memory(overlay, session))

    # ------------------------------------------------------------ ending

    async def close(self, session_id: SessionId, link: LinkLike) -> None:
        """The client leaves. Durable when this returns; one that is not there has left.

        Raises Disconnected when it was opened on another link.
        """
        if session_id in self._sessions:
            self._end(self.of(session_id, link).session_id, "its client leaves")
        await self._remove_records()

    async def watch(self) -> None:
        """End sessions that fall silent, until cancelled."""
        for session in self._sessions.values():
            if session.has_left and session.link_number == NO_LINK:
                self._applier.spawn(partial(self._forget_soon, session, NO_LINK))
        while True:
            await trio.sleep(self._lifetimes.tick_s)
            now_s = trio.current_time()
            for session_id in self._lifetimes.tick(now_s):
                self._end(session_id, "it was silent for too long")
                assert session_id not in self._sessions
            for session_id in self._recalls.tick():
                log.warning("session %d does not answer a recall: it is fenced", session_id)
                self._sessions[session_id].is_deaf = True
            try:
                await self._remove_records()
            except SETBACKS as error:
                log.warning("records of ended sessions stay for now: %s", error)

    def _end_departed(self, session_id: SessionId) -> None:
        if session_id in self._sessions:
            self._end(session_id, "its client has left, and others need what it had exclusively")

    def _end(self, session_id: SessionId, reason: str) -> None:
        session = self._sessions.pop(session_id)
        log.info("session %d ends: %s (%s)", session_id, reason, session.client)
        session.stream.close(_fenced(session_id))
        self._recalls.forget_all(session_id)
        self._lifetimes.end(session_id)
        self._ended[session_id] = None

    async def _remove_records(self) -> None:
        ended = list(self._ended)
        if not ended:
            return

        def remove(overlay: Overlay) -> None:
            for session_id in ended:
                overlay.delete(session_key(session_id))

        await self._committer.commit(remove)
        for session_id in ended:
            if session_id in self._ended:
                del self._ended[session_id]
                self._lifetimes.come_back(session_id)
                self._reaper.note_freed(self._holds.drop_all(session_id))
        self._reaper.wake()

    # ------------------------------------------------------------ for people

    def status(self) -> tuple[SessionStatus, ...]:
        """Every session, by id."""
        now_s = trio.current_time()
        return tuple(
            SessionStatus(
                session_id=session_id,
                client=session.client,
                held_count=len(self._holds.held_by(session_id)),
                lease_count=self._recalls.leases.count(session_id),
                last_op=session.stream.numbers.told,
                silent_s=self._lifetimes.silent_s(session_id, now_s),
            )
            for session_id, session in sorted(self._sessions.items())
        )


def _fenced(session_id: SessionId) -> Fenced:
    return Fenced(f"session {session_id} has ended")


def _begin(overlay: Overlay, request: OpenSession) -> SessionRecord:
    counters = _counters(overlay)
    session_id = counters.next_session
    overlay.put(COUNTERS_KEY, replace(counters, next_session=SessionId(session_id + 1)))
    record = SessionRecord(
        session_id,
        request.client[:CLIENT_CHARACTERS_MAX],
        last_op=OpNumber(0),
        may_remember=request.wants_leases,
    )
    overlay.put(session_key(session_id), record)
    return _give_range(overlay, session_id)


def _note_memory(overlay: Overlay, session: Session) -> SessionRecord | None:
    """Write down whether the session may remember anything, and whether its client has left. None:
    its record is gone."""
    key = session_key(session.session_id)
    record = overlay.get(key, SessionRecord)
    if record is not None:
        changed = replace(record, may_remember=session.may_remember, has_left=session.has_left)
        if changed != record:
            overlay.put(key, changed)
        return changed
    return None


def _give_range(overlay: Overlay, session_id: SessionId) -> SessionRecord:
    """Numbers are durable before they are handed out, so none is ever given twice."""
    key = session_key(session_id)
    record = overlay.get(key, SessionRecord)
    if record is None:
        raise _fenced(session_id)
    counters = _counters(overlay)
    first_ino, end_ino = counters.next_ino, InodeId(counters.next_ino + INODE_RANGE_COUNT)
    overlay.put(COUNTERS_KEY, replace(counters, next_ino=end_ino))
    record = replace(record, first_ino=first_ino, end_ino=end_ino)
    overlay.put(key, record)
    return record


def _counters(overlay: Overlay) -> Counters:
    counters = overlay.get(COUNTERS_KEY, Counters)
    assert counters is not None, "a volume has its counters"
    return counters
