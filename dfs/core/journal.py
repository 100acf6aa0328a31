"""The numbered ops that a client has not had answered, in order (I5, I8).

    state      means                                     leaves when
    waiting    has no number yet                         next_batch → sent · withdraw → gone
    sent       has its number for good; is sent again    settle → answered
               until its outcome is told

One message is under way at a time; what gathers meanwhile travels together in the next. Numbers
are given in the order of `add`. Knows nothing of links or time.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from dfs.core.messages import NumberedOp, OpOutcome
from dfs.core.namespace.ops import CommitData, SetXattr
from dfs.limits import KIB, MIB
from dfs.types import OpNumber

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dfs.core.namespace.ops import ClientOp, OpResult
    from dfs.errors import DfsError
    from dfs.types import InodeId

BATCH_OPS_MAX: Final = 256
BATCH_BYTES_MAX: Final = 1 * MIB
"""A message holds at most this, or one op."""
NO_NUMBER: Final = OpNumber(0)
_OP_BYTES = KIB
_GROUP_BYTES = 5
_NAMES_BYTES = 6 * KIB
"""Two names and a symlink's target."""
_PIECE_BYTES = 80


@dataclass(eq=False, slots=True)
class JournalEntry:
    """An op and what became of it."""

    op: ClientOp
    has_hold: bool
    touched: Sequence[InodeId] | None = None
    """Of an op that the client has done by itself, what is owed until this is over."""
    expected: OpResult | None = None
    """What the application was told then."""
    sent_count: int = 0
    number: OpNumber = NO_NUMBER
    """0 while it waits."""
    outcome: OpOutcome | None = None
    error: DfsError | None = None
    """Set instead of an outcome when the session was lost."""

    @property
    def is_over(self) -> bool:
        return self.outcome is not None or self.error is not None

    @property
    def is_foreseen(self) -> bool:
        return self.touched is not None


class OpJournal:
    """One session's stream of ops."""

    def __init__(self) -> None:
        self._waiting: deque[JournalEntry] = deque()
        self._sent: deque[JournalEntry] = deque()
        self._last_number = NO_NUMBER

    def __len__(self) -> int:
        """Ops without an outcome."""
        return len(self._waiting) + len(self._sent)

    @property
    def owed_count(self) -> int:
        """Of these, ops that were done by the client already."""
        return sum(entry.is_foreseen for entry in (*self._sent, *self._waiting))

    @property
    def answered_below(self) -> OpNumber:
        """Every op below this has been answered."""
        if self._sent:
            return self._sent[0].number
        return OpNumber(self._last_number + 1)

    def add(self, op: ClientOp, *, has_hold: bool = False) -> JournalEntry:
        """Put an op at the end of the stream."""
        entry = JournalEntry(op, has_hold)
        self._waiting.append(entry)
        return entry

    def add_done(
        self, op: ClientOp, touched: Sequence[InodeId], expected: OpResult
    ) -> JournalEntry:
        """Put an op at the end of the stream that was done here. What it makes needs no hold: it is
        leased."""
        entry = JournalEntry(op, False, touched, expected)
        self._waiting.append(entry)
        return entry

    def withdraw(self, entry: JournalEntry) -> bool:
        """Take back an op that was never sent. False: it may have happened already."""
        assert not entry.is_over
        if entry.number:
            return False
        self._waiting.remove(entry)
        assert entry.outcome is None
        return True

    def next_batch(self) -> tuple[NumberedOp, ...]:
        """What the next message carries: unanswered ops again, then waiting ones. May be empty."""
        batch: list[JournalEntry] = []
        total = 0
        for entry in [*self._sent, *self._waiting]:
            size = op_bytes(entry.op)
            is_full = len(batch) == BATCH_OPS_MAX or total + size > BATCH_BYTES_MAX
            if batch and is_full:
                break
            batch.append(entry)
            entry.sent_count += 1
            total += size
        for entry in batch[len(self._sent) :]:
            self._number(entry)
        numbers = [entry.number for entry in batch]
        assert numbers == list(range(numbers[0], numbers[0] + len(batch))) if batch else True
        return tuple(
            NumberedOp(entry.number, entry.op, entry.has_hold, entry.is_foreseen) for entry in batch
        )

    def oldest_sent(self, count: int) -> list[JournalEntry]:
        """The first `count` ops that were sent and are unanswered, in order."""
        assert count <= len(self._sent)
        return list(islice(self._sent, count))

    def _number(self, entry: JournalEntry) -> None:
        assert entry is self._waiting[0]
        self._waiting.popleft()
        self._last_number = OpNumber(self._last_number + 1)
        entry.number = self._last_number
        self._sent.append(entry)

    def settle(
        self, batch: Sequence[NumberedOp], outcomes: Sequence[OpOutcome]
    ) -> list[JournalEntry]:
        """Note the outcomes of a batch. Returns its entries, in order."""
        assert len(batch) == len(outcomes)
        settled = []
        for sent, outcome in zip(batch, outcomes, strict=True):
            entry = self._sent.popleft()
            assert entry.number == sent.number
            assert entry.outcome is None
            entry.outcome = outcome
            settled.append(entry)
        return settled

    def knows(self, last_op: OpNumber) -> bool:
        """The server's last durable op was sent from here. It may be below the last answered one:
        ops that failed or changed nothing are answered without being made durable."""
        return last_op <= self._last_number

    def held_creations(self) -> list[InodeId]:
        """Inodes that unanswered ops create and hold open: they must outlive a lost link."""
        return [entry.op.ino for entry in self._sent if entry.has_hold and hasattr(entry.op, "ino")]

    def restart(self, error: DfsError) -> list[JournalEntry]:
        """The session is gone: numbers begin anew. Returns what was unanswered, in order."""
        lost = [*self._sent, *self._waiting]
        for entry in lost:
            assert not entry.is_over
            entry.error = error
        self._sent.clear()
        self._waiting.clear()
        self._last_number = NO_NUMBER
        assert self.answered_below == 1
        return lost


def op_bytes(op: ClientOp) -> int:
    """About what an op takes in a message; never less."""
    size = _OP_BYTES + _GROUP_BYTES * len(op.credentials.groups)
    if isinstance(op, SetXattr):
        return size + len(op.value)
    if isinstance(op, CommitData):
        return size + sum(_PIECE_BYTES + len(piece.inline) for piece in op.pieces)
    return size + _NAMES_BYTES
