"""Goal: ops and results travel unchanged, and only a client's own kinds are taken from it."""

from __future__ import annotations

import typing

import msgspec
import pytest

from dfs.core.namespace.ops import (
    AnyOp,
    ClientOp,
    CommitData,
    Create,
    Divide,
    Link,
    Mkdir,
    Op,
    OpResult,
    Piece,
    Reclaim,
    RemoveXattr,
    Rename,
    Rmdir,
    SetAttr,
    SetXattr,
    Symlink,
    TrimTail,
    Unlink,
)
from dfs.types import BlockId, Credentials, InodeId

WHO = {"credentials": Credentials(1000, 1000, (4, 24)), "now_ns": -1}
ONE, TWO = InodeId(1), InodeId((1 << 64) - 1)
PIECES = (Piece(0, 1, inline=b"a"), Piece(5, 2, BlockId(bytes(32)), 3, 9), Piece(9, 9))
CLIENT_OPS: list[Op] = [
    Create(parent=ONE, name=b"\xff", ino=TWO, mode=0o100644, is_exclusive=False, **WHO),
    Mkdir(parent=ONE, name=b"d", ino=TWO, mode=0o755, **WHO),
    Symlink(parent=ONE, name=b"s", ino=TWO, target=b"t", **WHO),
    Link(ino=TWO, parent=ONE, name=b"l", **WHO),
    Unlink(parent=ONE, name=b"u", **WHO),
    Rmdir(parent=ONE, name=b"r", **WHO),
    Rename(parent=ONE, name=b"a", new_parent=TWO, new_name=b"b", flags=2, **WHO),
    SetAttr(ino=ONE, mode=0, size=1 << 62, atime_ns=-1, is_mtime_now=True, **WHO),
    SetXattr(ino=ONE, name=b"user.a", value=b"", flags=1, **WHO),
    RemoveXattr(ino=ONE, name=b"user.a", **WHO),
    CommitData(ino=ONE, pieces=PIECES, **WHO),
]
SERVER_OPS: list[Op] = [Reclaim(ino=ONE, **WHO), TrimTail(ino=ONE, size=5, **WHO)]


@pytest.mark.parametrize("op", CLIENT_OPS + SERVER_OPS, ids=lambda op: type(op).__name__)
def test_an_op_travels_unchanged(op: Op) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(op), type=AnyOp) == op


@pytest.mark.parametrize("op", SERVER_OPS, ids=lambda op: type(op).__name__)
def test_a_client_cannot_send_the_servers_own_ops(op: Op) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(op), type=ClientOp)


def test_every_op_is_listed() -> None:
    assert set(typing.get_args(AnyOp)) == set(Op.__subclasses__())
    assert set(typing.get_args(AnyOp)) - set(typing.get_args(ClientOp)) == {Reclaim, TrimTail}
    assert {type(op) for op in CLIENT_OPS + SERVER_OPS} == set(Op.__subclasses__())


def test_a_division_carries_its_first_part() -> None:
    first = TrimTail(ino=ONE, size=5, **WHO)
    assert Divide(first).first is first


def test_a_result_is_about_something_new_unless_it_says_otherwise() -> None:
    assert OpResult() == OpResult(inode=None, orphans=(), is_new=True)
