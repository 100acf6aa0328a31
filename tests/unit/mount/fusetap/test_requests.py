"""Goal: a request's head says who asks, and whether set-id bits go (linux/fuse.h)."""

from __future__ import annotations

import pytest

from dfs.mount.fusetap.requests import Requester, kills_set_id, requester
from tests.unit.mount.fusetap.heads import (
    create_head,
    head,
    open_head,
    setattr_head,
    write_head,
)

FATTR_SIZE, FATTR_KILL_SUIDGID = 1 << 3, 1 << 11


def test_who_asks() -> None:
    assert requester(head(1, b"name\0", uid=1, gid=2, pid=3)) == Requester(1, 2, 3)


@pytest.mark.parametrize(
    ("request_head", "kills"),
    [
        (write_head(0), False),
        (write_head(1 << 2), True),
        (write_head(1 << 1 | 1 << 2), True),
        (write_head(1 << 0), None),
        (open_head(0), False),
        (open_head(1), True),
        (create_head(0), False),
        (create_head(1), True),
        (setattr_head(FATTR_SIZE), False),
        (setattr_head(FATTR_SIZE | FATTR_KILL_SUIDGID), True),
        (head(15, bytes(24)), None),
    ],
)
def test_whether_set_id_bits_go(request_head: bytes, *, kills: bool | None) -> None:
    assert kills_set_id(request_head) is kills


def test_a_head_that_is_cut_off_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        kills_set_id(write_head(0)[:-1])
