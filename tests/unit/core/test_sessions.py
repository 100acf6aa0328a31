from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfs.core.namespace.records import SessionRecord
from dfs.core.sessions import Holds, Lifetimes, OpNumbers, Verdict
from dfs.types import InodeId, OpNumber, SessionId

ONE, TWO = SessionId(1), SessionId(2)


def numbers(last_op: int = 0, failed: tuple[tuple[int, int], ...] = ()) -> OpNumbers:
    pairs = tuple((OpNumber(number), errno) for number, errno in failed)
    return OpNumbers(SessionRecord(ONE, "test", OpNumber(last_op), pairs))


def judge(stream: OpNumbers, *wanted: int) -> list[Verdict]:
    return [stream.judge(OpNumber(number)) for number in wanted]


# ---------------------------------------------------------------- numbers


def test_ops_are_taken_in_order_and_told_again_when_they_come_again() -> None:
    stream = numbers()
    assert judge(stream, 1, 2, 1, 2, 3) == [
        Verdict.TAKE,
        Verdict.TAKE,
        Verdict.TELL_AGAIN,
        Verdict.TELL_AGAIN,
        Verdict.TAKE,
    ]


def test_a_gap_breaks_the_protocol() -> None:
    stream = numbers(last_op=4)
    assert judge(stream, 6) == [Verdict.GAP]
    assert judge(stream, 4, 5) == [Verdict.TELL_AGAIN, Verdict.TAKE]


def test_numbers_answered_before_a_restart_may_be_left_out() -> None:
    """Ops 5 and 6 failed alone: answered, never durable. The restarted server expects 7 next."""
    stream = numbers(last_op=4)
    stream.answered(OpNumber(7))
    assert judge(stream, 8, 7, 8) == [Verdict.GAP, Verdict.TAKE, Verdict.TAKE]


def test_dropped_ops_come_again_in_order_and_what_was_sent_behind_them_is_no_gap() -> None:
    stream = numbers()
    judge(stream, 1, 2, 3, 4)
    stream.note_told(OpNumber(2))
    stream.note_failed(OpNumber(4), 17)
    stream.drop_from(OpNumber(3))
    assert stream.failed == {}
    assert judge(stream, 5, 4, 6) == [Verdict.SEND_AGAIN] * 3
    assert judge(stream, 8) == [Verdict.GAP]
    assert judge(stream, 3, 4, 5, 6) == [Verdict.TAKE] * 4


def test_an_op_without_room_is_postponed_with_all_behind_it() -> None:
    stream = numbers()
    assert judge(stream, 1) == [Verdict.TAKE]
    assert stream.postpone(OpNumber(2)) is Verdict.SEND_AGAIN
    assert judge(stream, 3) == [Verdict.SEND_AGAIN]
    assert stream.postpone(OpNumber(9)) is Verdict.GAP
    assert judge(stream, 2, 3) == [Verdict.TAKE] * 2


def test_failures_are_written_with_the_next_record_until_answered() -> None:
    stream = numbers(last_op=2, failed=((2, 13),))
    judge(stream, 3, 4, 5, 6)
    stream.note_failed(OpNumber(3), 17)
    stream.note_failed(OpNumber(6), 2)
    record = SessionRecord(ONE, "test", OpNumber(2))
    after = stream.record_after(record, OpNumber(5))
    assert after.last_op == 5
    assert after.failed_ops == ((2, 13), (3, 17))
    stream.answered(OpNumber(3))
    assert stream.record_after(record, OpNumber(5)).failed_ops == ((3, 17),)


@given(st.lists(st.sampled_from(["send", "drop", "tell", "again"]), max_size=60))
def test_every_number_is_taken_once_between_drops(script: list[str]) -> None:
    stream, expected = numbers(), 1
    for step in script:
        if step == "send":
            assert stream.judge(OpNumber(expected)) is Verdict.TAKE
            expected += 1
        elif step == "tell" and stream.told < stream.taken:
            stream.note_told(OpNumber(stream.told + 1))
        elif step == "drop" and stream.told < stream.taken:
            expected = stream.told + 1
            stream.drop_from(OpNumber(expected))
        elif step == "again" and expected > 1:
            assert stream.judge(OpNumber(expected - 1)) is Verdict.TELL_AGAIN
        assert stream.taken == expected - 1
        assert stream.told <= stream.taken <= stream.seen


# ---------------------------------------------------------------- holds


def inos(*numbers: int) -> tuple[InodeId, ...]:
    return tuple(InodeId(number) for number in numbers)


def test_an_inode_is_free_when_its_last_holder_lets_go() -> None:
    holds = Holds()
    assert holds.add(ONE, InodeId(7))
    assert not holds.add(ONE, InodeId(7))
    assert holds.add(TWO, InodeId(7))
    assert holds.count(InodeId(7)) == 2
    assert holds.drop(ONE, inos(7, 7, 8)) == []
    assert holds.is_held(InodeId(7))
    assert holds.drop(TWO, inos(7)) == [7]
    assert not holds.is_held(InodeId(7))


def test_coming_back_a_session_holds_exactly_what_it_names() -> None:
    holds = Holds()
    for ino in inos(1, 2, 3):
        holds.add(ONE, ino)
    holds.add(TWO, InodeId(1))
    assert holds.replace(ONE, inos(3, 4)) == [2]
    assert holds.held_by(ONE) == (3, 4)
    assert holds.all_held() == (1, 3, 4)
    assert holds.drop_all(ONE) == [3, 4]
    assert holds.drop_all(ONE) == []
    assert holds.all_held() == (1,)


@given(st.lists(st.tuples(st.sampled_from([ONE, TWO]), st.integers(1, 4), st.booleans())))
def test_counts_follow_what_sessions_hold(script: list[tuple[SessionId, int, bool]]) -> None:
    holds, model = Holds(), set[tuple[SessionId, int]]()
    for session_id, number, is_add in script:
        before = {ino for _, ino in model}
        if is_add:
            assert holds.add(session_id, InodeId(number)) == ((session_id, number) not in model)
            model.add((session_id, number))
        else:
            model.discard((session_id, number))
            freed = holds.drop(session_id, inos(number))
            assert set(freed) == before - {ino for _, ino in model}
        assert set(holds.all_held()) == {ino for _, ino in model}


# ---------------------------------------------------------------- lifetimes


def test_silent_sessions_are_over_longest_silent_first() -> None:
    lives = Lifetimes(0.0, ttl_s=30, tick_s=1)
    lives.begin(TWO, 0.0)
    lives.begin(ONE, 0.5)
    assert lives.tick(1.0) == []
    for second in range(2, 31):
        assert lives.tick(second) == []
    assert lives.tick(31.0) == [TWO, ONE]
    lives.hear(TWO, 31.5)
    assert lives.tick(32.0) == [ONE]
    lives.end(ONE)
    assert ONE not in lives
    assert lives.tick(33.0) == []
    assert lives.silent_s(TWO, 33.0) == pytest.approx(1.5)


def test_nobody_is_blamed_for_a_pause_of_the_server_itself() -> None:
    lives = Lifetimes(0.0, ttl_s=30, tick_s=1)
    lives.begin(ONE, 0.0)
    assert lives.tick(1.0) == []
    assert lives.tick(101.0) == []
    assert next(second for second in range(102, 140) if lives.tick(float(second))) == 130


def test_after_a_restart_everyone_known_is_waited_for() -> None:
    lives = Lifetimes(0.0, ttl_s=30, tick_s=1)
    assert lives.is_everyone_back
    lives.begin(ONE, 0.0, is_absent=True)
    lives.begin(TWO, 0.0, is_absent=True)
    lives.come_back(ONE)
    assert not lives.is_everyone_back
    lives.end(TWO)
    assert not lives.is_everyone_back, "its end is not durable yet"
    lives.come_back(TWO)
    assert lives.is_everyone_back
