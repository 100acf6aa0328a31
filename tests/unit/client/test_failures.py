"""Goal: a failure reads the same wherever it is told."""

from __future__ import annotations

import errno

from dfs.client.failures import copy_of
from dfs.errors import Disconnected, FsError


def test_a_copy_is_the_same_error_but_another_object() -> None:
    for error in (FsError(errno.ENOSPC, "full"), Disconnected("a: b")):
        copy = copy_of(error)
        assert copy is not error
        assert type(copy) is type(error)
        assert str(copy) == str(error)
        assert copy.errno == error.errno
