"""Sends a session's ops in order, together when they gather, and again until answered (I5, I8).

Closed inodes (`release`) travel with the next ops, or by themselves when none come. Between sending
a release and its answer the inode must not be opened: see `hold_again`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio

from dfs.core.calls import error_of
from dfs.core.journal import JournalEntry, OpJournal
from dfs.core.messages import ApplyOps, ApplyReply, Failure, Release
from dfs.errors import (
    DfsError,
    Fenced,
    OutcomeUnknown,
    Overloaded,
    RemoteProtocolError,
    RetryableError,
)
from dfs.limits import OPS_IN_FLIGHT_MAX

if TYPE_CHECKING:
    from collections.abc import Callable

    from dfs.client.session import MetaLink, MetaSession
    from dfs.core.messages import NumberedOp
    from dfs.core.namespace.ops import ClientOp, OpResult
    from dfs.types import InodeId

logger = logging.getLogger(__name__)

RELEASE_IDLE_S: Final = 1.0
RELEASES_PER_MESSAGE_MAX: Final = 1000
RETRY_PAUSE_S: Final = 0.1


class OpStream:
    """The ops of one client. `run` carries it."""

    def __init__(self, session: MetaSession, on_unclaimed: Callable[[InodeId], None]) -> None:
        self._session = session
        self._on_unclaimed = on_unclaimed
        self.journal = OpJournal()
        self._answered: dict[JournalEntry, trio.Event] = {}
        self._abandoned: dict[JournalEntry, None] = {}
        """Nobody waits for these any more."""
        self._wake = trio.Event()
        self._room = trio.Event()
        self._begun: dict[JournalEntry, None] = {}
        """Sent at least once: what they change is in flux."""
        self._pending_releases: dict[InodeId, float] = {}
        """Closed inodes → when at the latest the server is told."""
        self._releases_under_way: dict[InodeId, trio.Event] = {}

    # ------------------------------------------------------------ ops

    async def submit(self, op: ClientOp, *, has_hold: bool = False) -> OpResult:
        """The result of an op once it is durable (I3).

        Raises FsError; Fenced when the session was lost with it; Disconnected when no server
        answered for so long that it is given up: it may still happen.
        """
        while len(self.journal) >= OPS_IN_FLIGHT_MAX:
            await self._room.wait()
        return await self.outcome(self.enqueue(op, has_hold=has_hold))

    def enqueue(self, op: ClientOp, *, has_hold: bool = False) -> JournalEntry:
        """Give an op its place in the stream, now. `outcome` must follow."""
        entry = self.journal.add(op, has_hold=has_hold)
        self._answered[entry] = trio.Event()
        self._wake.set()
        return entry

    async def outcome(self, entry: JournalEntry) -> OpResult:
        """See `submit`."""
        try:
            with trio.move_on_after(self._session.patience_s):
                await self._answered[entry].wait()
        finally:
            del self._answered[entry]
            if not entry.is_over and not self.journal.withdraw(entry):
                self._abandoned[entry] = None
        if not entry.is_over:
            raise self._session.trouble()
        return _result(entry)

    # ------------------------------------------------------------ releases

    def release(self, ino: InodeId) -> None:
        """The server need not keep this inode open for us any more; it is told soon."""
        assert ino not in self._pending_releases
        self._pending_releases[ino] = trio.current_time() + RELEASE_IDLE_S
        self._wake.set()

    def is_release_due(self, ino: InodeId) -> bool:
        return ino in self._pending_releases

    def is_released(self, ino: InodeId) -> bool:
        """A release of it waits or is under way."""
        return ino in self._pending_releases or ino in self._releases_under_way

    async def hold_again(self, ino: InodeId) -> bool:
        """Take back a release that was not sent; one under way is waited for. True: the inode is
        still held, and no Open is needed."""
        while ino in self._releases_under_way:
            await self._releases_under_way[ino].wait()
        return self._pending_releases.pop(ino, None) is not None

    def forget_releases(self) -> None:
        """A session is being opened: it names what is held, so that everything else is let go."""
        self._pending_releases.clear()

    # ------------------------------------------------------------ sending

    async def run(self) -> None:
        """Send ops and releases as they come, until cancelled."""
        while True:
            await self._wait_for_work()
            link = await self._session.wait_link(float("inf"))
            batch = self.journal.next_batch()
            releases = list(self._pending_releases)[:RELEASES_PER_MESSAGE_MAX]
            for ino in releases:
                del self._pending_releases[ino]
                self._releases_under_way[ino] = trio.Event()
            try:
                await self._send(link, batch, tuple(releases))
            finally:
                for ino in releases:
                    self._releases_under_way.pop(ino).set()

    async def _wait_for_work(self) -> None:
        while len(self.journal) == 0:
            due_s = min(self._pending_releases.values(), default=float("inf"))
            if due_s <= trio.current_time():
                return
            self._wake = trio.Event()
            with trio.move_on_at(due_s):
                await self._wake.wait()

    async def _send(
        self, link: MetaLink, batch: tuple[NumberedOp, ...], releases: tuple[InodeId, ...]
    ) -> None:
        try:
            if batch:
                await self._apply(link, batch, releases)
            elif releases:
                request = Release(session_id=link.session_id, inos=releases)
                await self._session.call(link, request)
        except Fenced as error:
            self._session.lose_session(link, str(error))
        except Overloaded:
            self._pending_releases.update(dict.fromkeys(releases, trio.current_time()))
            await self._session.pause(RETRY_PAUSE_S)
        except (RetryableError, OutcomeUnknown, RemoteProtocolError) as error:
            # The ops are sent again, and what is held is told, when the link was made anew.
            self._session.break_link(link, str(error))
        except DfsError as error:
            # Ops fail one by one, in their outcomes: a refused stream cannot go on.
            self._session.lose_session(link, f"the stream of ops was refused: {error}")

    async def _apply(
        self, link: MetaLink, batch: tuple[NumberedOp, ...], releases: tuple[InodeId, ...]
    ) -> None:
        # What is asked from here on comes to the server after these ops (see RecordCache).
        request = ApplyOps(
            session_id=link.session_id,
            ops=batch,
            answered_below=self.journal.answered_below,
            releases=releases,
            given_back=tuple(self._forget_changed(batch)),
        )
        reply = await self._session.call(link, request)
        if self._session.session_id != link.session_id:
            return
        if not isinstance(reply, ApplyReply) or len(reply.outcomes) != len(batch):
            raise RemoteProtocolError(f"{link.address} answered ops with {reply!r:.80}")
        self._tell(self.journal.settle(batch, reply.outcomes))

    def _forget_changed(self, batch: tuple[NumberedOp, ...]) -> list[InodeId]:
        """Forget what these ops change, before they are sent the first time."""
        given_back = []
        for entry in self.journal.oldest_sent(len(batch)):
            if entry not in self._begun:
                self._begun[entry] = None
                given_back += self._session.records.begin(entry.op)
        return given_back

    def _tell(self, settled: list[JournalEntry]) -> None:
        for entry in settled:
            if entry in self._begun:
                del self._begun[entry]
                self._session.records.end(entry.op)
            event = self._answered.get(entry)
            if event is not None:
                event.set()
            elif entry in self._abandoned:
                self._clear_up(entry)
        self._room.set()
        self._room = trio.Event()

    def _clear_up(self, entry: JournalEntry) -> None:
        """Let go of what an op holds whose caller left."""
        del self._abandoned[entry]
        result = entry.outcome.result if entry.outcome is not None else None
        if entry.has_hold and result is not None and result.inode is not None:
            self._on_unclaimed(result.inode.ino)

    def fail_all(self, reason: str) -> None:
        """The session is lost, and with it every op without an answer (I7)."""
        self._pending_releases.clear()
        self._tell(self.journal.restart(Fenced(reason)))
        assert len(self.journal) == 0


def _result(entry: JournalEntry) -> OpResult:
    """Raises what the outcome says."""
    if entry.error is not None:
        raise type(entry.error)(str(entry.error))
    outcome = entry.outcome
    assert outcome is not None
    if outcome.errno == 0 and not outcome.kind:
        assert outcome.result is not None
        return outcome.result
    failure = Failure(kind=outcome.kind or "FsError", message="", errno=outcome.errno)
    raise error_of(failure)
