"""Goal: a failure reads the same wherever it is told."""

from __future__ import annotations

import errno

import pytest

from dfs.client.failures import LossesSeen, copy_of
from dfs.errors import Disconnected, Fenced, FsError


def test_a_copy_is_the_same_error_but_another_object() -> None:
    for error in (FsError(errno.ENOSPC, "full"), Disconnected("a: b")):
        copy = copy_of(error)
        assert copy is not error
        assert type(copy) is type(error)
        assert str(copy) == str(error)
        assert copy.errno == error.errno


def test_a_loss_is_told_once_to_whoever_was_there_before_it() -> None:
    early, late = LossesSeen(0), LossesSeen(2)
    early.raise_new(0)
    with pytest.raises(Fenced, match="not durable"):
        early.raise_new(2)
    for seen in (early, late):
        seen.raise_new(2)
    with pytest.raises(Fenced):
        late.raise_new(3)
