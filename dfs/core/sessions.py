"""Sessions: the numbered op stream of each (I8), what they hold open, and when they end (I7).

    number of an op                      is
    ≤ taken                              known: its outcome is told (again)
    next: taken + 1, or answered_below   taken
    ≤ seen + 1                           dropped, or behind one that was: to be sent again, in order
    above                                a gap: the other side breaks the protocol

`answered_below` may be ahead of what is known after a restart: an op that failed alone is told
without a commit, so its number was never durable. Skipping such numbers is exact: whatever changed
something was durable before it was answered, so all that is skipped had failed.

For the same reason an op that failed needs no commit. Its outcome is kept here and written with the
session's next commit. If that never comes, nothing later of the session was durable; whoever asks
again finds its answer by applying the op again, as good as the first time, for nobody had heard of
the first answer, or nobody asks.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from msgspec.structs import replace

from dfs.types import OpNumber

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dfs.core.namespace.records import SessionRecord
    from dfs.types import InodeId, SessionId


class Verdict(Enum):
    """What to do with an op that arrives."""

    TAKE = "take"
    TELL_AGAIN = "tell again"
    SEND_AGAIN = "send again"
    GAP = "gap"


class OpNumbers:
    """The numbers of one session's op stream, and which of them failed."""

    def __init__(self, record: SessionRecord) -> None:
        self.taken: OpNumber = record.last_op
        """Newest op that was taken; it and all before it have an outcome, or will have."""
        self.seen: OpNumber = record.last_op
        """Newest op that ever came; above `taken` only after some were dropped."""
        self.told: OpNumber = record.last_op
        """Every op up to here is durable, or failed for good."""
        self.failed: dict[OpNumber, int] = dict(record.failed_ops)
        """Number → errno, for ops whose answer may still be asked for."""
        self._answered_below = OpNumber(1)

    def judge(self, number: OpNumber) -> Verdict:
        """What to do with this op; TAKE counts as taken from now on."""
        assert number > 0
        if number <= self.taken:
            return Verdict.TELL_AGAIN
        if number == max(self.taken + 1, self._answered_below):
            self.taken = number
            self.seen = max(self.seen, number)
            return Verdict.TAKE
        if number <= self.seen + 1:
            self.seen = max(self.seen, number)
            return Verdict.SEND_AGAIN
        return Verdict.GAP

    def postpone(self, number: OpNumber) -> Verdict:
        """There is no room for this op: it comes again."""
        assert number > self.taken
        is_gap = number > max(self.seen + 1, self._answered_below)
        self.seen = max(self.seen, number)
        return Verdict.GAP if is_gap else Verdict.SEND_AGAIN

    def answered(self, below: OpNumber) -> None:
        """The client has the outcome of every op below this; those need not be remembered."""
        self._answered_below = max(self._answered_below, below)
        for number in [n for n in self.failed if n < self._answered_below]:
            del self.failed[number]

    def note_failed(self, number: OpNumber, errno: int) -> None:
        """This op failed for good and changed nothing."""
        assert number <= self.taken
        assert errno > 0
        self.failed[number] = errno

    def note_told(self, number: OpNumber) -> None:
        """This op is durable, or failed for good; so are all before it."""
        assert number <= self.taken
        self.told = max(self.told, number)

    def drop_from(self, number: OpNumber) -> None:
        """This op and all after it were undone before anyone heard of them: they come again."""
        assert self.told < number <= self.taken
        self.taken = OpNumber(number - 1)
        for failed in [n for n in self.failed if n >= number]:
            del self.failed[failed]

    def record_after(self, record: SessionRecord, number: OpNumber) -> SessionRecord:
        """The session's record once this op has had its effect, to be written in the same batch."""
        assert record.last_op < number <= self.taken
        failed = sorted((n, errno) for n, errno in self.failed.items() if n < number)
        return replace(record, last_op=number, failed_ops=tuple(failed))


class Holds:
    """Which session holds which inodes open."""

    def __init__(self) -> None:
        self._held: dict[SessionId, dict[InodeId, None]] = {}
        self._counts: dict[InodeId, int] = {}

    def is_held(self, ino: InodeId) -> bool:
        return ino in self._counts

    def count(self, ino: InodeId) -> int:
        """Sessions that hold it."""
        return self._counts.get(ino, 0)

    def held_by(self, session_id: SessionId) -> tuple[InodeId, ...]:
        return tuple(self._held.get(session_id, ()))

    def all_held(self) -> tuple[InodeId, ...]:
        """Everything that anyone holds, sorted."""
        return tuple(sorted(self._counts))

    def add(self, session_id: SessionId, ino: InodeId) -> bool:
        """The session holds the inode. False if it did already."""
        assert ino > 0
        held = self._held.setdefault(session_id, {})
        if ino in held:
            return False
        held[ino] = None
        self._counts[ino] = self._counts.get(ino, 0) + 1
        return True

    def drop(self, session_id: SessionId, inos: Iterable[InodeId]) -> list[InodeId]:
        """The session lets these go. Returns those that nobody holds any more."""
        held = self._held.get(session_id, {})
        freed = []
        for ino in inos:
            if ino not in held:
                continue
            del held[ino]
            self._counts[ino] -= 1
            if self._counts[ino] == 0:
                del self._counts[ino]
                freed.append(ino)
        return freed

    def replace(self, session_id: SessionId, inos: Iterable[InodeId]) -> list[InodeId]:
        """The session holds exactly these. Returns what nobody holds any more."""
        wanted = dict.fromkeys(inos)
        gone = [ino for ino in self._held.get(session_id, ()) if ino not in wanted]
        for ino in wanted:
            self.add(session_id, ino)
        return self.drop(session_id, gone)

    def drop_all(self, session_id: SessionId) -> list[InodeId]:
        """The session is gone. Returns what nobody holds any more."""
        freed = self.drop(session_id, self.held_by(session_id))
        self._held.pop(session_id, None)
        return freed


class Lifetimes:
    """When each session was last heard of, and which have not come back since a restart.

    Times are seconds of one monotonic clock. A server that was stopped itself heard nobody: a late
    `tick` moves everyone's last sign of life by as much, so that they are not blamed for it.
    """

    def __init__(self, now_s: float, *, ttl_s: float, tick_s: float) -> None:
        assert 0 < tick_s < ttl_s
        self._ttl_s = ttl_s
        self.tick_s = tick_s
        self._ticked_s = now_s
        self._heard_s: dict[SessionId, float] = {}
        self._absent: dict[SessionId, None] = {}

    def __contains__(self, session_id: SessionId) -> bool:
        return session_id in self._heard_s

    @property
    def is_everyone_back(self) -> bool:
        """All sessions known from before the restart have returned or ended (then orphans that
        nobody holds are nobody's)."""
        return not self._absent

    def begin(self, session_id: SessionId, now_s: float, *, is_absent: bool = False) -> None:
        """A session begins, or is known from before a restart and has its time to come back."""
        assert session_id not in self._heard_s
        self._heard_s[session_id] = now_s
        if is_absent:
            self._absent[session_id] = None

    def hear(self, session_id: SessionId, now_s: float) -> None:
        """A sign of life."""
        assert session_id in self._heard_s
        self._heard_s[session_id] = now_s

    def come_back(self, session_id: SessionId) -> None:
        """It has told what it holds, or its end is durable: nobody waits for it any more."""
        self._absent.pop(session_id, None)

    def end(self, session_id: SessionId) -> None:
        """It is over. One that was waited for still is, until that is durable: `come_back`."""
        self._heard_s.pop(session_id, None)

    def silent_s(self, session_id: SessionId, now_s: float) -> float:
        """Seconds since the last sign of life."""
        return max(0.0, now_s - self._heard_s[session_id])

    def tick(self, now_s: float) -> list[SessionId]:
        """Sessions that were silent for too long, longest first. Call every `tick_s`."""
        late_s = now_s - self._ticked_s - self.tick_s
        self._ticked_s = now_s
        if late_s > self.tick_s:
            for session_id in self._heard_s:
                self._heard_s[session_id] += late_s
        over = [s for s, heard_s in self._heard_s.items() if now_s - heard_s > self._ttl_s]
        return sorted(over, key=lambda s: (self._heard_s[s], s))
