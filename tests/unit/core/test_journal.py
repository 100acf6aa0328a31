"""Goal: ops keep order and numbers whatever gets lost (I5, I8). Method: a server that counts."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from dfs.core.journal import BATCH_BYTES_MAX, BATCH_OPS_MAX, OpJournal, op_bytes
from dfs.core.messages import OpOutcome
from dfs.core.namespace.ops import (
    ClientOp,
    CommitData,
    Create,
    OpResult,
    Piece,
    SetXattr,
    Unlink,
)
from dfs.errors import Fenced
from dfs.limits import KIB
from dfs.types import ROOT, Credentials, InodeId, OpNumber

WHO = Credentials(1000, 1000, tuple(range(100_000, 100_032)))


def unlink(number: int) -> Unlink:
    return Unlink(credentials=WHO, now_ns=number, parent=ROOT, name=b"%d" % number)


def answers(count: int) -> list[OpOutcome]:
    return [OpOutcome() for _ in range(count)]


def test_ops_that_gather_travel_together() -> None:
    journal = OpJournal()
    for number in range(3):
        journal.add(unlink(number))
    batch = journal.next_batch()
    assert [op.number for op in batch] == [1, 2, 3]
    settled = journal.settle(batch, answers(3))
    assert [entry.number for entry in settled] == [1, 2, 3]
    assert len(journal) == 0
    assert journal.next_batch() == ()
    assert journal.answered_below == 4


def test_ops_that_were_done_before_travel_among_the_others() -> None:
    """Goal: one order for all, and each says what it is; how often it was sent is known."""
    journal = OpJournal()
    asked = journal.add(unlink(1))
    made = Create(credentials=WHO, now_ns=2, parent=ROOT, name=b"f", ino=InodeId(9), mode=0o100644)
    done = journal.add_done(made, [ROOT, InodeId(9)], OpResult())
    later = journal.add(unlink(3))
    assert [entry.is_foreseen for entry in (asked, done, later)] == [False, True, False]
    for count in (1, 2):
        batch = journal.next_batch()
        assert [op.number for op in batch] == [1, 2, 3]
        assert [op.is_foreseen for op in batch] == [False, True, False]
        assert not any(op.has_hold for op in batch), "it is leased"
        assert done.sent_count == count
    assert journal.held_creations() == []
    assert journal.settle(batch, answers(3)) == [asked, done, later]
    assert done.expected == OpResult()


def test_unanswered_ops_are_sent_again_under_their_numbers() -> None:
    journal = OpJournal()
    first = journal.add(unlink(1))
    assert [op.number for op in journal.next_batch()] == [1]
    second = journal.add(unlink(2))
    batch = journal.next_batch()
    assert [(op.number, op.op) for op in batch] == [(1, first.op), (2, second.op)]
    assert journal.answered_below == 1


def test_only_an_op_that_was_never_sent_can_be_taken_back() -> None:
    journal = OpJournal()
    sent, waiting = journal.add(unlink(1)), journal.add(unlink(2))
    journal.withdraw(waiting)
    journal.next_batch()
    assert not journal.withdraw(sent)
    assert len(journal) == 1


def test_a_batch_is_bounded_in_ops_and_bytes() -> None:
    journal = OpJournal()
    value = bytes(60 * KIB)
    for _ in range(30):
        journal.add(
            SetXattr(credentials=WHO, now_ns=0, ino=ROOT, name=b"user.x", value=value, flags=0)
        )
    batch = journal.next_batch()
    assert 1 < len(batch) < 30
    assert len(msgspec.msgpack.encode(batch)) <= BATCH_BYTES_MAX
    journal.restart(Fenced("gone"))
    for number in range(BATCH_OPS_MAX + 1):
        journal.add(unlink(number))
    assert len(journal.next_batch()) <= BATCH_OPS_MAX


def test_op_bytes_is_never_too_small() -> None:
    pieces = tuple(Piece(n << 50, 1 << 40, b"b" * 32, 1 << 22, 1 << 23) for n in range(100))
    ops: list[ClientOp] = [
        CommitData(credentials=WHO, now_ns=1 << 62, ino=InodeId(1 << 62), pieces=pieces),
        unlink(1 << 60),
        Create(credentials=WHO, now_ns=1, parent=ROOT, name=b"n" * 255, ino=ROOT, mode=0o100644),
    ]
    for op in ops:
        assert len(msgspec.msgpack.encode(op)) <= op_bytes(op)


def test_held_creations_are_those_under_way() -> None:
    journal = OpJournal()
    op = Create(credentials=WHO, now_ns=1, parent=ROOT, name=b"f", ino=InodeId(77), mode=0o100644)
    journal.add(op, has_hold=True)
    assert journal.held_creations() == []
    batch = journal.next_batch()
    assert journal.held_creations() == [77]
    journal.settle(batch, answers(1))
    assert journal.held_creations() == []


def test_the_servers_last_op_must_be_one_of_ours() -> None:
    journal = OpJournal()
    for number in range(3):
        journal.add(unlink(number))
    journal.settle(journal.next_batch(), answers(3))
    journal.add(unlink(4))
    assert [journal.knows(OpNumber(last)) for last in range(5)] == [True] * 4 + [False]


def test_a_lost_session_fails_everything_and_counts_from_one() -> None:
    journal = OpJournal()
    sent = journal.add(unlink(1))
    journal.next_batch()
    waiting = journal.add(unlink(2))
    assert journal.restart(Fenced("expired")) == [sent, waiting]
    assert isinstance(sent.error, Fenced)
    assert waiting.is_over
    journal.add(unlink(3))
    assert [op.number for op in journal.next_batch()] == [1]


@given(st.lists(st.sampled_from(["add", "send", "lose", "withdraw"]), max_size=60))
def test_every_op_happens_once_and_in_order(script: list[str]) -> None:
    journal, applied, wanted = OpJournal(), list[int](), list[int]()
    newest = None
    for number, step in enumerate([*script, "send"]):
        if step == "add":
            newest = journal.add(unlink(number))
            wanted.append(number)
        elif step == "withdraw":
            if newest is not None and newest.outcome is None and journal.withdraw(newest):
                wanted.remove(newest.op.now_ns)
            newest = None
        else:
            batch = journal.next_batch()
            for numbered in batch:
                if numbered.number > len(applied):
                    assert numbered.number == len(applied) + 1
                    applied.append(numbered.op.now_ns)
            if step == "send":
                journal.settle(batch, answers(len(batch)))
    assert applied == wanted
    assert len(journal) == 0
