"""The op stream of one session: ops are applied in the order of their numbers, each once (I8).

| an attempt is | until |
|---|---|
| queued | it is first, and nothing that it needs is missing |
| applied | the batch that carries it landed, or failed |
| told | the client says that it has the answer |

An op that comes again over a new link while the first attempt is under way joins that attempt. One
that was told, or was durable before a restart, is not applied again: its outcome is told from
memory, or else from the current records.

Applying needs no task: it happens where the op arrives. Only an op that has to wait (records are
missing, the batch is full, somebody has to forget what it changes) gets one, and the ops of the
same session queue up behind it.
"""

from __future__ import annotations

import errno
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

import trio

from dfs.core.leases import Claim, named_by
from dfs.core.messages import OpOutcome
from dfs.core.namespace.apply import apply
from dfs.core.namespace.keys import COUNTERS_KEY, inode_key, session_key
from dfs.core.namespace.ops import CommitData, Create, Divide, Mkdir, Symlink
from dfs.core.namespace.records import Counters, Inode, SessionRecord
from dfs.core.namespace.view import Missing
from dfs.core.sessions import OpNumbers, Verdict
from dfs.errors import FsError, Overloaded, RemoteProtocolError
from dfs.limits import OPS_IN_FLIGHT_MAX
from dfs.meta.batches import BatchFull
from dfs.meta.outcomes import outcome_again
from dfs.meta.reading import Sightings
from dfs.meta.recalls import LeaseConflict

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from dfs.core.leases import Touched
    from dfs.core.messages import NumberedOp
    from dfs.core.namespace.ops import AnyOp, OpResult
    from dfs.core.namespace.view import Overlay
    from dfs.core.sessions import Holds
    from dfs.errors import DfsError
    from dfs.meta.committer import Committer
    from dfs.meta.deletions import Deletions
    from dfs.meta.reaper import Reaper
    from dfs.meta.recalls import Recalls
    from dfs.types import InodeId, OpNumber, SessionId

    Obstacle = Missing | BatchFull | LeaseConflict
    Spawn = Callable[[Callable[[], Awaitable[None]]], None]

_MAKERS = Create | Mkdir | Symlink


class Applier:
    """What all streams share: where ops are applied, and what an op brings with it."""

    def __init__(
        self,
        committer: Committer,
        holds: Holds,
        reaper: Reaper,
        deletions: Deletions,
        recalls: Recalls,
        spawn: Spawn,
    ) -> None:
        self.committer = committer
        self.holds = holds
        self.reaper = reaper
        self.deletions = deletions
        self.recalls = recalls
        self.spawn = spawn


class Attempt:
    """One op on its way. Follows the batch that carries it."""

    __slots__ = ("_stream", "done", "error", "exclusive", "first", "numbered", "outcome")

    def __init__(self, stream: OpStream, numbered: NumberedOp) -> None:
        self._stream = stream
        self.numbered = numbered
        self.first: AnyOp | None = None
        """A step that has to be applied before the op, which is too large for one batch."""
        self.outcome: OpOutcome | None = None
        self.error: DfsError | None = None
        """Set instead of an outcome if the op was not done and may be sent again, or never will."""
        self.exclusive: tuple[InodeId, ...] = ()
        """What the session has exclusively since, and does not know yet."""
        self.done = trio.Event()

    @property
    def number(self) -> OpNumber:
        return self.numbered.number

    def on_landed(self) -> None:
        self._stream.settle(self)

    def on_failed(self, error: DfsError) -> None:
        self._stream.undo(self, error)

    def end(self, error: DfsError | None = None) -> None:
        """Tell everyone who waits."""
        assert not self.done.is_set()
        assert error is not None or self.outcome is not None
        self.error = error
        self.done.set()

    async def result(self) -> OpOutcome:
        """The outcome once it is durable (I3). Raises Overloaded (send it again), Fenced."""
        await self.done.wait()
        if self.error is not None:
            raise type(self.error)(str(self.error))
        assert self.outcome is not None
        return self.outcome


class OpStream:
    """Takes a session's ops, applies them in order, remembers their outcomes."""

    def __init__(self, record: SessionRecord, applier: Applier) -> None:
        self.session_id: SessionId = record.session_id
        self.numbers = OpNumbers(record)
        self._applier = applier
        self._committer = applier.committer
        self._attempts: dict[OpNumber, Attempt] = {}
        """By number, in order, until the client has the answer."""
        self._queue: deque[Attempt] = deque()
        """Taken and not yet applied."""
        self._is_waiting = False
        """A task overcomes what the first in the queue lacks."""
        self._claim: Claim | None = None
        """What the first in the queue claims, so that it can change it (I4)."""
        self._closed: DfsError | None = None
        self.may_remember = record.may_remember
        """The session may have leases."""

    # ------------------------------------------------------------ taking ops

    def submit(
        self, ops: Sequence[NumberedOp], answered_below: OpNumber
    ) -> list[Callable[[], Awaitable[OpOutcome]]]:
        """Where to wait for each op's outcome. Runs without an await, so arrival is the order.

        Raises Overloaded when they are to be sent again, in order; RemoteProtocolError for numbers
        that leave something out.
        """
        self._forget_answered(answered_below)
        answers: list[Callable[[], Awaitable[OpOutcome]]] = []
        try:
            # What was taken before an op that is refused stays taken.
            answers.extend(map(self._take, ops))
        finally:
            self._apply_queued()
        return answers

    def exclusive_since(self, ops: Sequence[NumberedOp]) -> list[InodeId]:
        """What the session has exclusively because of these ops, and was not told yet."""
        attempts = (self._attempts.get(numbered.number) for numbered in ops)
        inos = {ino: None for attempt in attempts if attempt for ino in attempt.exclusive}
        leases = self._applier.recalls.leases
        return [ino for ino in inos if leases.is_exclusive(self.session_id, ino)]

    def _take(self, numbered: NumberedOp) -> Callable[[], Awaitable[OpOutcome]]:
        number = numbered.number
        if number < 1:
            raise RemoteProtocolError(f"op number {number}")
        is_too_much = len(self._queue) >= OPS_IN_FLIGHT_MAX and number > self.numbers.taken
        verdict = self.numbers.postpone(number) if is_too_much else self.numbers.judge(number)
        match verdict:
            case Verdict.TAKE:
                attempt = self._attempts[number] = Attempt(self, numbered)
                self._queue.append(attempt)
                return attempt.result
            case Verdict.TELL_AGAIN:
                known = self._attempts.get(number)
                return known.result if known else partial(self._tell_again, numbered)
            case Verdict.SEND_AGAIN:
                raise Overloaded(f"ops from {self.numbers.taken + 1} on are to be sent again")
            case Verdict.GAP:
                expected = self.numbers.taken + 1
                raise RemoteProtocolError(f"op {number} came where {expected} was expected")

    def _forget_answered(self, below: OpNumber) -> None:
        self.numbers.answered(below)
        for number, attempt in list(self._attempts.items()):
            if number >= below or not attempt.done.is_set():
                break
            del self._attempts[number]

    async def _tell_again(self, numbered: NumberedOp) -> OpOutcome:
        """The outcome of an op that was durable before this server knew the session, or told."""
        failed_with = self.numbers.failed.get(numbered.number)
        if failed_with is not None:
            return OpOutcome(errno=failed_with)
        ino = getattr(numbered.op, "ino", None) if numbered.has_hold else None
        is_first = ino is not None and self._applier.holds.add(self.session_id, ino)
        outcome = await self._committer.read(lambda view: outcome_again(view, numbered.op))
        if numbered.has_hold and self._closed is None:
            inode = outcome.result.inode if outcome.result is not None else None
            if inode is not None:
                self._applier.holds.add(self.session_id, inode.ino)
            if is_first and ino is not None and (inode is None or inode.ino != ino):
                self._applier.holds.drop(self.session_id, (ino,))
        return outcome

    # ------------------------------------------------------------ applying them

    def _apply_queued(self) -> None:
        """Apply all that can be applied at once; a task goes on from there."""
        if self._is_waiting:
            return
        obstacle = self._advance()
        if obstacle is not None:
            self._is_waiting = True
            self._applier.spawn(partial(self._overcome, obstacle))

    async def _overcome(self, obstacle: Obstacle) -> None:
        with self._committer.relying():
            left: Obstacle | None = obstacle
            while left is not None:
                if isinstance(left, LeaseConflict):
                    await self._make_way(left)
                else:
                    await self._committer.overcome(left)
                left = self._advance()
        self._is_waiting = False

    async def _make_way(self, conflict: LeaseConflict) -> None:
        """Return when those who remember what the first op changes have forgotten it."""
        if self._claim is None:
            self._claim = Claim()
        claim = self._claim
        await self._applier.recalls.make_way(claim, conflict)
        if claim is not self._claim:
            # The op left the queue meanwhile, and with it went what it claimed.
            self._applier.recalls.leases.release(claim)

    def _release_claim(self) -> None:
        if self._claim is not None:
            self._applier.recalls.leases.release(self._claim)
            self._claim = None

    def _advance(self) -> Obstacle | None:
        """Apply ops from the head of the queue. Returns what the next one has to wait for."""
        while self._queue:
            attempt = self._queue[0]
            try:
                if attempt.first is not None:
                    self._committer.apply(partial(self._apply_step, attempt.first))
                    attempt.first = None
                    continue
                self._apply(attempt)
            except (Missing, BatchFull, LeaseConflict) as obstacle:
                return obstacle
            except Divide as divided:
                attempt.first = divided.first
            except FsError as error:
                self._fail_first(error)
            else:
                self._queue.popleft()
                self._release_claim()
        return None

    def _apply(self, attempt: Attempt) -> None:
        """The op's changes and the session's new record join the open batch together (I8)."""
        assert self._closed is None
        change = partial(self._change, attempt.numbered)
        (result, orphans, touched), batch = self._committer.apply(change)
        attempt.outcome = OpOutcome(result=result)
        if self.may_remember:
            self._lease_touched(attempt, result, touched)
        if attempt.numbered.has_hold and result.inode is not None:
            self._applier.holds.add(self.session_id, result.inode.ino)
        for ino in orphans:
            self._applier.reaper.note_orphan(ino)
        batch.follow(attempt)

    def _lease_touched(self, attempt: Attempt, result: OpResult, touched: Touched) -> None:
        """What the op made is its session's exclusively, and so is what it changed, if nobody else
        has a lease on it. A foreseen op changes only what its session has already."""
        leases, op = self._applier.recalls.leases, attempt.numbered.op
        leases.give_back(self.session_id, result.orphans)
        made = op.ino if isinstance(op, _MAKERS) and result.is_new else None
        if made is not None and not leases.is_leased(made):
            leases.take(self.session_id, made)
        if not attempt.numbered.is_foreseen:
            attempt.exclusive = tuple(
                ino for ino in touched if leases.grant_exclusive(self.session_id, ino, self._claim)
            )

    def _change(
        self, numbered: NumberedOp, overlay: Overlay
    ) -> tuple[OpResult, list[InodeId], Touched]:
        """The op's result, which of its orphans are left, and what it touches that has a name."""
        op = numbered.op
        if isinstance(op, CommitData):
            self._applier.deletions.check(overlay, op)
        elif isinstance(op, _MAKERS):
            _check_number(overlay, op.ino)
        result = self._apply_in_sight(overlay, numbered)
        reclaim_now = self._applier.reaper.reclaim_now
        orphans = [ino for ino in result.orphans if not reclaim_now(overlay, ino, op.now_ns)]
        key = session_key(self.session_id)
        record = overlay.get(key, SessionRecord)
        assert record is not None, "an open session has its record"
        overlay.put(key, self.numbers.record_after(record, numbered.number))
        named = None if numbered.is_foreseen else named_by(op)
        touched = self._check_leases(overlay, named)
        return result, orphans, {ino: touched[ino] for ino in touched if _has_name(overlay, ino)}

    def _apply_in_sight(self, overlay: Overlay, numbered: NumberedOp) -> OpResult:
        """Apply an op. Raises LeaseConflict if its answer, a failure too, depends on what somebody
        else may have changed without the server knowing yet. Who foresees an op has leases on all
        that it looks at."""
        if numbered.is_foreseen:
            return apply(overlay, numbered.op)
        base = overlay.base
        overlay.base = sightings = Sightings(base)
        check = partial(self._applier.recalls.check_sight, self.session_id, sightings.inos)
        try:
            result = apply(overlay, numbered.op)
        except FsError:
            check()
            raise
        overlay.base = base
        check()
        return result

    def _apply_step(self, op: AnyOp, overlay: Overlay) -> OpResult:
        """Part of an op that is too large for one batch."""
        if isinstance(op, CommitData):
            self._applier.deletions.check(overlay, op)
        result = apply(overlay, op)
        self._check_leases(overlay, named_by(op))
        return result

    def _check_leases(self, overlay: Overlay, named: Touched | None) -> Touched:
        """What an op has changed here. Raises LeaseConflict while somebody remembers any of it."""
        return self._applier.recalls.check(self._claim, self.session_id, overlay.changes, named)

    def _fail_first(self, error: FsError) -> None:
        """The first op failed. Its answer waits for what it may have seen (I3)."""
        if not self._queue:
            return
        self._release_claim()
        attempt = self._queue.popleft()
        self.numbers.note_failed(attempt.number, error.errno)
        attempt.outcome = OpOutcome(errno=error.errno)
        newest = self._committer.newest
        if newest is None:
            self.settle(attempt)
        else:
            newest.follow(attempt)

    # ------------------------------------------------------------ what became of them

    def settle(self, attempt: Attempt) -> None:
        """The attempt's outcome is final."""
        self.numbers.note_told(attempt.number)
        if not attempt.done.is_set():
            attempt.end()

    def undo(self, attempt: Attempt, error: DfsError) -> None:
        """The batch that carried the attempt left no trace."""
        if attempt.done.is_set():
            return
        self._drop_made(attempt)
        if attempt.numbered.is_foreseen:
            error = Overloaded(f"a foreseen op has to wait: {error}")
        if isinstance(error, Overloaded):
            # It stood on a batch that failed, or was promised to happen: this op and all after it
            # are sent again.
            self._drop_from(attempt.number, error)
            return
        self.numbers.note_failed(attempt.number, error.errno)
        attempt.outcome = OpOutcome(errno=error.errno, kind=type(error).__name__)
        self.settle(attempt)

    def _drop_made(self, attempt: Attempt) -> None:
        """What the op made is not there: nobody holds it, nobody has a lease on it."""
        result = attempt.outcome.result if attempt.outcome is not None else None
        if result is None or result.inode is None or not result.is_new:
            return
        made = (result.inode.ino,)
        if isinstance(attempt.numbered.op, _MAKERS):
            self._applier.recalls.leases.give_back(self.session_id, made)
        if attempt.numbered.has_hold:
            self._applier.holds.drop(self.session_id, made)

    def drop_waiting(self, error: DfsError) -> None:
        """What is not applied yet will not be, unless it is sent again."""
        if self._queue:
            self._drop_from(self._queue[0].number, error)

    def _drop_from(self, number: OpNumber, error: DfsError) -> None:
        self.numbers.drop_from(number)
        self._queue.clear()
        self._release_claim()
        for dropped in [n for n in self._attempts if n >= number]:
            attempt = self._attempts.pop(dropped)
            if not attempt.done.is_set():
                attempt.end(error)

    def close(self, error: DfsError) -> None:
        """The session is over: nothing more of it is applied (I7)."""
        self._closed = error
        for attempt in self._queue:
            if not attempt.done.is_set():
                attempt.end(error)
        self._queue.clear()
        self._release_claim()


def _has_name(overlay: Overlay, ino: InodeId) -> bool:
    """What has none is not worth a lease: it goes when nobody holds it, and nobody is asked."""
    inode = overlay.get(inode_key(ino), Inode)
    return inode is not None and inode.nlink > 0


def _check_number(overlay: Overlay, ino: InodeId) -> None:
    """Refuses inode numbers that no session was given."""
    counters = overlay.get(COUNTERS_KEY, Counters)
    assert counters is not None
    if ino >= counters.next_ino:
        raise FsError(errno.EINVAL, f"inode number {ino} was given to nobody")
