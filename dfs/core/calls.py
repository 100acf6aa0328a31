"""Which calls wait for an answer, until when, and how a failure travels; without I/O.

A call is *waiting* from `start` until exactly one of: `answer` (its reply came), `forget` (its
caller gave up), `expire` (silence) or `drain` (the link broke). A reply that comes later finds
nobody. Time enters as an argument, in seconds of any steady clock.
"""

from __future__ import annotations

import inspect
import math
from typing import Final, Generic, NamedTuple, TypeVar

import dfs.errors
from dfs.core.messages import Failure
from dfs.errors import DfsError, FsError, RemoteProtocolError

W = TypeVar("W")

PATIENCE_FACTOR: Final = 6
"""A busy link stretches a call's time-out to at most this many times."""


class _Waiting(NamedTuple, Generic[W]):
    waiter: W
    started_s: float
    timeout_s: float


class PendingCalls(Generic[W]):
    """The calls of one link that have no answer yet, in the order in which they were started."""

    def __init__(self) -> None:
        self._next_id = 1
        self._waiting: dict[int, _Waiting[W]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def start(self, waiter: W, now_s: float, timeout_s: float) -> int:
        """The new call's request id: 1, 2, 3, …, never used twice on one link."""
        assert timeout_s > 0
        request_id = self._next_id
        assert request_id not in self._waiting
        self._next_id += 1
        self._waiting[request_id] = _Waiting(waiter, now_s, timeout_s)
        return request_id

    def answer(self, request_id: int) -> W | None:
        """Who waits for this reply; None: they gave up. Raises RemoteProtocolError: never asked."""
        if not 0 < request_id < self._next_id:
            raise RemoteProtocolError(f"an answer to request {request_id}, which was never sent")
        waiting = self._waiting.pop(request_id, None)
        return None if waiting is None else waiting.waiter

    def forget(self, request_id: int) -> None:
        """The caller no longer waits; an answer that still comes is dropped."""
        assert 0 < request_id < self._next_id
        self._waiting.pop(request_id, None)
        assert request_id not in self._waiting

    def next_expiry_s(self, progress_s: float = -math.inf) -> float:
        """When to look for expired calls again; infinite when nobody waits."""
        return min(
            (_expiry_s(call, progress_s) for call in self._waiting.values()), default=math.inf
        )

    def expire(self, now_s: float, progress_s: float = -math.inf) -> list[W]:
        """Take out whoever waited too long, in order of start.

        `progress_s` is when a bulk transfer last moved on this link: behind it a call's answer may
        be late though nothing is wrong, so the time counts from there.
        """
        late = [
            request_id
            for request_id, call in self._waiting.items()
            if _expiry_s(call, progress_s) <= now_s
        ]
        waiters = [self._waiting.pop(request_id).waiter for request_id in late]
        assert self.next_expiry_s(progress_s) > now_s
        return waiters

    def drain(self) -> list[W]:
        """Take out everyone, in order of start: the link is gone."""
        waiters = [call.waiter for call in self._waiting.values()]
        self._waiting.clear()
        return waiters


def _expiry_s(call: _Waiting[W], progress_s: float) -> float:
    silent_since_s = max(call.started_s, progress_s)
    latest_s = call.started_s + PATIENCE_FACTOR * call.timeout_s
    return min(silent_since_s + call.timeout_s, latest_s)


_ERROR_TYPES: Final[dict[str, type[DfsError]]] = {
    name: member
    for name, member in inspect.getmembers(dfs.errors, inspect.isclass)
    if issubclass(member, DfsError)
}


def failure_of(error: DfsError) -> Failure:
    """The message that carries this error to the caller."""
    kind = next(
        parent.__name__ for parent in type(error).__mro__ if parent in _ERROR_TYPES.values()
    )
    message = str(error)
    if isinstance(error, FsError):
        # The other side's FsError writes the errno's name in front again.
        message = message.partition(": ")[2]
        return Failure(kind=kind, message=message, errno=error.errno)
    return Failure(kind=kind, message=message)


def error_of(failure: Failure) -> DfsError:
    """The error that this message carries; a plain DfsError for a kind that is not known here."""
    error_type = _ERROR_TYPES.get(failure.kind)
    if error_type is None:
        return DfsError(f"{failure.kind}: {failure.message}")
    if issubclass(error_type, FsError):
        if failure.errno <= 0:
            return DfsError(f"{failure.kind} without errno: {failure.message}")
        return FsError(failure.errno, failure.message)
    return error_type(failure.message)
