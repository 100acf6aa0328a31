"""The exception tree: as drawn at its top, with errno and "may be retried" in the right places."""

from __future__ import annotations

import errno
import inspect
import re

import pytest

import dfs.errors
from dfs.errors import (
    CorruptBlock,
    DfsError,
    Disconnected,
    Fenced,
    FsError,
    LocalProtocolError,
    NoSpace,
    OutcomeUnknown,
    Overloaded,
    ProtocolError,
    RemoteProtocolError,
    RetryableError,
    UserError,
)

ERROR_TYPES = [
    member
    for _, member in inspect.getmembers(dfs.errors, inspect.isclass)
    if issubclass(member, DfsError)
]


def test_the_drawing_shows_every_class_once() -> None:
    """The tree in the module's docstring is the tree of the code."""
    assert dfs.errors.__doc__ is not None
    drawn: dict[str, str] = {}
    path = ["DfsError"]
    for indent, name in re.findall(r"^([ │]*)[├└]── (\w+)", dfs.errors.__doc__, re.MULTILINE):
        depth = len(indent) // 4
        path[depth:] = [name]
        drawn[name] = path[depth - 1]
    real = {kind.__name__: kind.__mro__[1].__name__ for kind in ERROR_TYPES}
    assert real.pop("DfsError") == "Exception"
    assert drawn == real


@pytest.mark.parametrize("kind", ERROR_TYPES)
def test_every_class_says_what_it_means(kind: type[DfsError]) -> None:
    assert kind.__doc__


@pytest.mark.parametrize("kind", ERROR_TYPES)
def test_only_where_nothing_happened_may_be_retried(kind: type[DfsError]) -> None:
    assert kind.is_retryable == issubclass(kind, RetryableError)


@pytest.mark.parametrize("kind", [Disconnected, Overloaded])
def test_retryable(kind: type[DfsError]) -> None:
    assert issubclass(kind, RetryableError)


@pytest.mark.parametrize("kind", [OutcomeUnknown, Fenced, CorruptBlock, ProtocolError])
def test_not_retryable(kind: type[DfsError]) -> None:
    assert not kind("x").is_retryable


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (DfsError("x"), errno.EIO),
        (Disconnected("x"), errno.EIO),
        (NoSpace("x"), errno.ENOSPC),
        (FsError(errno.ENOTEMPTY), errno.ENOTEMPTY),
    ],
)
def test_what_an_application_sees(error: DfsError, number: int) -> None:
    assert error.errno == number


def test_the_text_of_an_fs_error() -> None:
    assert str(FsError(errno.EACCES)) == "EACCES: Permission denied"
    assert str(FsError(errno.EACCES, "no x on /a")) == "EACCES: no x on /a"
    assert str(FsError(9999, "odd")) == "9999: odd"


@pytest.mark.parametrize("number", [0, -2])
def test_an_errno_is_positive(number: int) -> None:
    with pytest.raises(AssertionError):
        FsError(number)


def test_a_protocol_error_has_a_side() -> None:
    assert issubclass(LocalProtocolError, ProtocolError)
    assert issubclass(RemoteProtocolError, ProtocolError)
    assert not issubclass(LocalProtocolError, RemoteProtocolError)


def test_a_user_error_carries_its_exit_status() -> None:
    assert UserError("x").exit_status == 1
    assert UserError("x", 2).exit_status == 2
    with pytest.raises(AssertionError):
        UserError("x", 0)
