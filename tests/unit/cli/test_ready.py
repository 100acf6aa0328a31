"""Goal: the parent of a background process hears why it failed, in the words people would see."""

from __future__ import annotations

import os

import msgspec
import pytest

from dfs.background import ReadyLine
from dfs.cli.ready import telling_parent
from dfs.errors import UserError


def heard(error: Exception) -> ReadyLine:
    reading, writing = os.pipe()
    with pytest.raises(type(error)), telling_parent(writing):
        raise error
    with os.fdopen(reading, "rb") as pipe:
        return msgspec.json.decode(pipe.read(), type=ReadyLine)


def test_errors_reach_the_parent_and_go_on() -> None:
    assert heard(UserError("bad words", exit_status=2)) == ReadyLine("bad words", 2)
    assert heard(OSError(28, "No space left on device")).error == "No space left on device"
    assert heard(ExceptionGroup("g", [UserError("inner")])).error == "inner"
    assert heard(ValueError("surprise")).error == "ValueError: surprise"


def test_nothing_is_said_when_all_goes_well() -> None:
    reading, writing = os.pipe()
    with telling_parent(writing):
        pass
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == b""
