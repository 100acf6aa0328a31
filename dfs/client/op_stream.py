"""Sends a session's ops in order, together when they gather, and again until answered (I5, I8).

    an op is  | the application is told     | it may wait for other clients
    done here | at once (`local_ops`)       | no: all that it changes is this client's alone
    asked     | when it is durable          | yes: none is sent while anything is owed
    a commit  | when it is durable          | no, if the file is this client's alone

Closed inodes (`release`) travel with the next ops, or by themselves when none come. Between sending
a release and its answer the inode must not be opened: see `hold_again`. What is open under a lease
has to be held when that is gone (`owe_hold`): whatever tells of the latter tells the former.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Final

import trio

from dfs.client.failures import lost_changes
from dfs.client.local_ops import do_here
from dfs.core.calls import error_of
from dfs.core.journal import JournalEntry, OpJournal
from dfs.core.messages import ApplyOps, ApplyReply, Failure, Release
from dfs.core.namespace.ops import CommitData
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
    from collections.abc import Awaitable, Callable, Iterator

    from dfs.client.local_ops import ExtentsOf
    from dfs.client.session import MetaLink, MetaSession
    from dfs.core.messages import NumberedOp
    from dfs.core.namespace.ops import ClientOp, OpResult
    from dfs.types import InodeId

logger = logging.getLogger(__name__)

RELEASE_IDLE_S: Final = 1.0
RELEASES_PER_MESSAGE_MAX: Final = 1000
RETRY_PAUSE_S: Final = 0.1
WANTED_PER_MESSAGE_MAX: Final = 1000


class OpStream:
    """The ops of one client. `run` carries it."""

    def __init__(
        self,
        session: MetaSession,
        on_unclaimed: Callable[[InodeId], None],
        *,
        is_synchronous: bool = False,
    ) -> None:
        self._session = session
        self._on_unclaimed = on_unclaimed
        self._is_synchronous = is_synchronous
        self.journal = OpJournal()
        self._answered: dict[JournalEntry, trio.Event] = {}
        self._abandoned: dict[JournalEntry, None] = {}
        """Nobody waits for these any more."""
        self._asked: dict[JournalEntry, None] = {}
        """Ops that may wait for others."""
        self._asking_count = 0
        """Those who are about to send one."""
        self._newest_done: JournalEntry | None = None
        self._owed_holds: dict[InodeId, None] = {}
        """To be held: let go once the server knows that."""
        self._untold_holds: dict[InodeId, None] = {}
        """Of these, what no message has told yet."""
        self.lost_count = 0
        """How often ops that were done here were lost with the session."""
        self.done_here_count = self.asked_count = self.commit_count = 0
        """Ops so far, by the table above."""
        self._is_loss_untold = False
        self.keep_promises: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
        """Makes durable what others are to find of files that were closed."""
        self.extents_of: ExtentsOf = lambda _: None
        self._wake = trio.Event()
        self._room = trio.Event()
        self._begun: dict[JournalEntry, bool] = {}
        """What they change is in flux. True: commits of what is exclusively this client's."""
        self._pending_releases: dict[InodeId, float] = {}
        """Closed inodes → when at the latest the server is told."""
        self._releases_under_way: dict[InodeId, trio.Event] = {}

    # ------------------------------------------------------------ ops

    async def submit(self, op: ClientOp, *, has_hold: bool = False) -> OpResult:
        """The result of an op: at once if it can be done here, else when it is durable (I3), and
        then with a hold on what it makes if wanted.

        Raises FsError; Fenced when the session was lost with it, or with what was done before and
        nobody was told of (I5); Disconnected when no server answered for so long that it is given
        up: it may still happen.
        """
        await self._wait_for_room()
        self.tell_loss()
        result = self._do_here(op)
        if result is not None:
            return result
        self.asked_count += 1
        return await self.outcome(await self._ask(op, self.tell_loss, has_hold=has_hold))

    async def commit(self, op: CommitData) -> OpResult:
        """As `submit`, but a loss stays to be told: nobody is told of this. A commit of what is
        exclusively this client's is not foreseen, but it waits for nobody, so it may be sent when
        something is owed."""
        await self._wait_for_room()
        self.commit_count += 1
        records = self._session.records
        if not records.is_alone(op.ino):
            return await self.outcome(await self._ask(op, self._refuse_after_loss))
        self._refuse_after_loss()
        entry = self.enqueue(op)
        self._begun[entry] = True
        records.begin_commit(op.ino)
        return await self.outcome(entry)

    async def _ask(
        self, op: ClientOp, check: Callable[[], None], *, has_hold: bool = False
    ) -> JournalEntry:
        """Enqueue an op that may wait for others, once nothing is owed: else others could wait for
        that, and it behind this op for them."""
        self._asking_count += 1
        try:
            await self.settled()
            await self.keep_promises()
            await self._wait_for_room()
            check()
            entry = self.enqueue(op, has_hold=has_hold)
            self._asked[entry] = None
        finally:
            self._asking_count -= 1
        return entry

    def do_here(self, op: ClientOp) -> OpResult | None:
        """The result of an op that was done here at once; None: `submit` it. Raises FsError."""
        if len(self.journal) >= OPS_IN_FLIGHT_MAX:
            return None
        self.tell_loss()
        return self._do_here(op)

    def tell_loss(self) -> None:
        """What follows on lost changes must not survive them (I5): the next change fails, once.
        Raises Fenced then."""
        is_untold, self._is_loss_untold = self._is_loss_untold, False
        if is_untold:
            raise lost_changes()

    def _refuse_after_loss(self) -> None:
        if self._is_loss_untold:
            raise lost_changes()

    async def _wait_for_room(self) -> None:
        while len(self.journal) >= OPS_IN_FLIGHT_MAX:
            await self._room.wait()

    @property
    def may_do_here(self) -> bool:
        """No op is under way that may wait for others: they could be waiting for what would be owed
        then, behind that op. A synchronous client owes nothing."""
        return not self._asked and not self._asking_count and not self._is_synchronous

    def _do_here(self, op: ClientOp) -> OpResult | None:
        if not self.may_do_here:
            return None
        done = do_here(self._session.records, op, self.extents_of)
        if done is None:
            return None
        assert self._session.is_linked
        self.done_here_count += 1
        result, touched = done
        if touched:
            self._newest_done = self.journal.add_done(op, touched, result)
            self._wake.set()
        return result

    async def settled(self) -> None:
        """Everything that was done here so far is durable, or lost with its session.

        Raises Disconnected when no server answered for so long that it is given up."""
        entry = self._newest_done
        if entry is None or entry.is_over:
            return
        event = self._answered.setdefault(entry, trio.Event())
        with trio.move_on_after(self._session.patience_s):
            await event.wait()
        if not entry.is_over:
            raise self._session.trouble()

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
            self._answered.pop(entry, None)
            if not entry.is_over:
                if self.journal.withdraw(entry):
                    self._forget(entry)
                else:
                    self._abandoned[entry] = None
        if not entry.is_over:
            raise self._session.trouble()
        return _result(entry)

    # ------------------------------------------------------------ releases

    def release(self, ino: InodeId) -> None:
        """The server need not keep this inode open for us any more; it is told soon."""
        assert ino not in self._pending_releases
        if ino in self._untold_holds:
            del self._untold_holds[ino], self._owed_holds[ino]
        elif ino not in self._owed_holds:
            self._pending_releases[ino] = trio.current_time() + RELEASE_IDLE_S
            self._wake.set()

    def owe_hold(self, ino: InodeId) -> None:
        """The server has to hold this, as soon as it hears that it is leased to us no longer."""
        self._owed_holds[ino] = self._untold_holds[ino] = None

    @contextmanager
    def telling_holds(self) -> Iterator[tuple[InodeId, ...]]:
        """Around a message that gives leases back, what it has to say is to be held. Without an
        answer the session is opened again, which names all that is held."""
        told = tuple(self._untold_holds)
        self._untold_holds.clear()
        try:
            yield told
        finally:
            for ino in told:
                self._owed_holds.pop(ino, None)
                self._on_unclaimed(ino)

    def _forget_untold_holds(self) -> None:
        for ino in self._untold_holds:
            del self._owed_holds[ino]
        self._untold_holds.clear()

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
        is_owed = ino in self._owed_holds
        return self._pending_releases.pop(ino, None) is not None or is_owed

    def forget_releases(self) -> None:
        """A session is being opened: it names what is held, so that everything else is let go."""
        self._pending_releases.clear()
        self._forget_untold_holds()

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
                await self._session.fault_point("ops are to be sent, none is")
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
        records = self._session.records
        given_back = await self._session.leases.take_given_back()
        if self._session.session_id != link.session_id:
            return
        wanted = self._wanted(len(batch))
        # What is asked from here on comes to the server after these ops (see RecordCache).
        given_back = (*given_back, *self._forget_changed(batch))
        with records.asking() as question, self.telling_holds() as holds:
            request = ApplyOps(
                session_id=link.session_id,
                ops=batch,
                answered_below=self.journal.answered_below,
                releases=releases,
                holds=holds,
                given_back=given_back,
                wanted=wanted,
            )
            reply = await self._session.call(link, request)
            if self._session.session_id != link.session_id:
                return
            if not isinstance(reply, ApplyReply) or len(reply.outcomes) != len(batch):
                raise RemoteProtocolError(f"{link.address} answered ops with {reply!r:.80}")
            exclusive = records.not_recalled(question, reply.exclusive)
            records.note_upgraded(question, reply.upgraded)
        settled = self.journal.settle(batch, reply.outcomes)
        self._tell(settled)
        if self._session.is_linked_by(link):
            for inode in exclusive:
                records.note_exclusive(inode)
        for entry in settled:
            if entry.is_foreseen and not _is_as_foreseen(entry):
                self._session.lose_session(link, f"{entry.op!r:.200} became {entry.outcome!r:.200}")

    def _wanted(self, count: int) -> tuple[InodeId, ...]:
        """What has to be this client's alone for doing here what is done next, perhaps."""
        wanted: dict[InodeId, None] = {}
        for entry in self.journal.oldest_sent(count):
            if entry in self._asked and entry not in self._begun:
                wanted.update(dict.fromkeys(self._session.records.wanted_beside(entry.op)))
        return tuple(islice(wanted, WANTED_PER_MESSAGE_MAX))

    def _forget_changed(self, batch: tuple[NumberedOp, ...]) -> list[InodeId]:
        """Forget what these ops change, before they are sent the first time."""
        given_back = []
        for entry in self.journal.oldest_sent(len(batch)):
            if entry not in self._begun and not entry.is_foreseen:
                self._begun[entry] = False
                given_back += self._session.records.begin(entry.op)
        return given_back

    def _tell(self, settled: list[JournalEntry]) -> None:
        for entry in settled:
            self._forget(entry)
            event = self._answered.get(entry)
            if event is not None:
                event.set()
            if entry.is_foreseen:
                self._answered.pop(entry, None)
            elif entry in self._abandoned:
                self._clear_up(entry)
        self._room.set()
        self._room = trio.Event()

    def _forget(self, entry: JournalEntry) -> None:
        """The op is over, or was never sent: what it changes is known again."""
        self._asked.pop(entry, None)
        records = self._session.records
        if entry.touched is not None:
            records.settle(entry.touched)
            if entry.error is not None:
                self.lost_count += 1
                self._is_loss_untold = True
        elif entry in self._begun:
            if self._begun.pop(entry):
                assert isinstance(entry.op, CommitData)
                result = entry.outcome.result if entry.outcome is not None else None
                records.end_commit(entry.op.ino, result.inode if result is not None else None)
            else:
                records.end(entry.op)

    def _clear_up(self, entry: JournalEntry) -> None:
        """Let go of what an op holds whose caller left."""
        del self._abandoned[entry]
        result = entry.outcome.result if entry.outcome is not None else None
        if entry.has_hold and result is not None and result.inode is not None:
            self._on_unclaimed(result.inode.ino)

    def fail_all(self, reason: str) -> None:
        """The session is lost, and with it every op without an answer (I7)."""
        self._pending_releases.clear()
        self._forget_untold_holds()
        self._tell(self.journal.restart(Fenced(reason)))
        assert len(self.journal) == 0


def _is_as_foreseen(entry: JournalEntry) -> bool:
    """The server did what was done here. Its answer may tell of a later state if it was asked more
    than once."""
    assert entry.outcome is not None
    if entry.sent_count > 1:
        return entry.outcome.errno == 0
    return entry.outcome.result == entry.expected


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
