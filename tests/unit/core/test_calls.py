"""Pending calls: ids, who waits, who waited too long; and every error survives the journey."""

from __future__ import annotations

import errno
import inspect
import math

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import dfs.errors
from dfs.core.calls import PATIENCE_FACTOR, PendingCalls, error_of, failure_of
from dfs.core.messages import Failure
from dfs.errors import (
    CorruptBlock,
    DfsError,
    Disconnected,
    FsError,
    RemoteProtocolError,
    UserError,
)

ERROR_TYPES = [
    member
    for _, member in inspect.getmembers(dfs.errors, inspect.isclass)
    if issubclass(member, DfsError)
]


def test_ids_count_from_one() -> None:
    calls: PendingCalls[str] = PendingCalls()
    assert [calls.start("x", 0.0, 1.0) for _ in range(3)] == [1, 2, 3]


def test_an_answer_goes_to_whoever_asked_once() -> None:
    calls: PendingCalls[str] = PendingCalls()
    first, second = calls.start("a", 0.0, 1.0), calls.start("b", 0.0, 1.0)
    assert calls.answer(second) == "b"
    assert calls.answer(first) == "a"
    assert calls.answer(first) is None
    assert len(calls) == 0


def test_the_answer_to_a_forgotten_call_finds_nobody() -> None:
    calls: PendingCalls[str] = PendingCalls()
    request_id = calls.start("a", 0.0, 1.0)
    calls.forget(request_id)
    assert calls.answer(request_id) is None


@pytest.mark.parametrize("request_id", [0, -1, 2, 99])
def test_an_answer_to_what_was_never_asked_is_nonsense(request_id: int) -> None:
    calls: PendingCalls[str] = PendingCalls()
    calls.start("a", 0.0, 1.0)
    with pytest.raises(RemoteProtocolError, match="never sent"):
        calls.answer(request_id)


def test_expire_takes_the_late_in_order_of_start() -> None:
    calls: PendingCalls[str] = PendingCalls()
    for name, timeout_s in (("a", 5.0), ("b", 9.0), ("c", 4.0)):
        calls.start(name, 100.0, timeout_s)
    assert calls.next_expiry_s() == 104.0
    assert calls.expire(103.9) == []
    assert calls.expire(105.0) == ["a", "c"]
    assert calls.next_expiry_s() == 109.0
    assert calls.expire(200.0) == ["b"]
    assert calls.next_expiry_s() == math.inf


def test_bulk_progress_puts_the_end_off_but_not_for_ever() -> None:
    calls: PendingCalls[str] = PendingCalls()
    calls.start("a", 100.0, 10.0)
    assert calls.expire(112.0, progress_s=105.0) == []
    assert calls.next_expiry_s(progress_s=105.0) == 115.0
    assert calls.next_expiry_s(progress_s=1000.0) == 100.0 + PATIENCE_FACTOR * 10.0
    assert calls.expire(100.0 + PATIENCE_FACTOR * 10.0, progress_s=1000.0) == ["a"]


def test_drain_takes_everyone_in_order_of_start() -> None:
    calls: PendingCalls[str] = PendingCalls()
    for name in "abc":
        calls.start(name, 0.0, 1.0)
    calls.answer(2)
    assert calls.drain() == ["a", "c"]
    assert calls.drain() == []


class CallsAgainstModel(RuleBasedStateMachine):
    """Any order of starts, answers, give-ups and time: each call ends exactly once."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: PendingCalls[int] = PendingCalls()
        self.model: dict[int, float] = {}
        self.started = 0
        self.now_s = 0.0

    @rule(timeout_s=st.integers(1, 20))
    def start(self, timeout_s: int) -> None:
        self.started += 1
        assert self.calls.start(self.started, self.now_s, timeout_s) == self.started
        self.model[self.started] = self.now_s + timeout_s

    @rule(request_id=st.integers(1, 12))
    def answer(self, request_id: int) -> None:
        if request_id <= self.started:
            expected = request_id if self.model.pop(request_id, None) is not None else None
            assert self.calls.answer(request_id) == expected

    @rule(request_id=st.integers(1, 12))
    def forget(self, request_id: int) -> None:
        if request_id <= self.started:
            self.calls.forget(request_id)
            self.model.pop(request_id, None)

    @rule(passed_s=st.integers(0, 15))
    def expire(self, passed_s: int) -> None:
        self.now_s += passed_s
        late = [call for call, expiry_s in self.model.items() if expiry_s <= self.now_s]
        assert self.calls.expire(self.now_s) == late
        for call in late:
            del self.model[call]

    @invariant()
    def agrees(self) -> None:
        assert len(self.calls) == len(self.model)
        assert self.calls.next_expiry_s() == min(self.model.values(), default=math.inf)


TestCallsAgainstModel = CallsAgainstModel.TestCase


# ------------------------------------------------------------------------------ failures


@pytest.mark.parametrize("error_type", ERROR_TYPES)
def test_every_error_arrives_as_itself(error_type: type[DfsError]) -> None:
    """A new class in dfs.errors travels without anybody listing it."""
    sent = FsError(errno.ENOENT, "x: y") if error_type is FsError else error_type("what: why")
    arrived = error_of(failure_of(sent))
    assert type(arrived) is error_type
    assert str(arrived) == str(sent)
    assert arrived.errno == sent.errno
    assert arrived.is_retryable == sent.is_retryable


def test_errors_travel_more_than_once() -> None:
    """A server may pass on what another told it: the text does not grow."""
    error: DfsError = FsError(errno.EEXIST, "a: b")
    for _ in range(3):
        error = error_of(failure_of(error))
    assert str(error) == "EEXIST: a: b"
    assert error.errno == errno.EEXIST


def test_plain_errno_text() -> None:
    assert str(error_of(failure_of(FsError(errno.ENOENT)))) == "ENOENT: No such file or directory"


def test_an_unnamed_errno_travels() -> None:
    arrived = error_of(failure_of(FsError(9999, "odd")))
    assert arrived.errno == 9999
    assert str(arrived) == "9999: odd"


class _Special(CorruptBlock):
    """A subclass that only one side knows."""


def test_a_subclass_arrives_as_the_class_that_both_know() -> None:
    assert failure_of(_Special("bad")) == Failure(kind="CorruptBlock", message="bad")


@pytest.mark.parametrize("kind", ["", "FromTheFuture", "Exception", "DfsErrors", "os"])
def test_an_unknown_kind_becomes_a_plain_error(kind: str) -> None:
    error = error_of(Failure(kind=kind, message="why", errno=5))
    assert type(error) is DfsError
    assert "why" in str(error)


@pytest.mark.parametrize("number", [0, -5])
def test_an_fs_error_without_errno_becomes_a_plain_error(number: int) -> None:
    assert type(error_of(Failure(kind="FsError", message="why", errno=number))) is DfsError


def test_a_user_error_arrives_with_status_one() -> None:
    error = error_of(failure_of(UserError("no such thing", 2)))
    assert isinstance(error, UserError)
    assert error.exit_status == 1


def test_disconnected_may_be_retried() -> None:
    assert error_of(failure_of(Disconnected("gone"))).is_retryable
