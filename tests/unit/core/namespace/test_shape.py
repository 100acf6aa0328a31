"""Goal: no number that a client sends can stop the server: out of range is EINVAL, the ends are
fine."""

from __future__ import annotations

import errno
import stat
from typing import Any

import pytest

from dfs.core.namespace.ops import (
    AnyOp,
    CommitData,
    Create,
    Link,
    Mkdir,
    Op,
    Piece,
    Rename,
    SetAttr,
    Unlink,
)
from dfs.core.namespace.shape import ID_MAX, INO_MAX, MODE_MAX, RDEV_MAX, check_shape
from dfs.errors import FsError
from dfs.limits import FILE_BYTES_MAX, TIME_NS_MAX, TIME_NS_MIN
from dfs.types import Credentials, InodeId
from tests.unit.core.namespace.volume import ALICE, ROOT, ROOT_USER, Volume

WHO = {"credentials": ALICE, "now_ns": 1}
SOUND: dict[type[Op], dict[str, Any]] = {
    Create: {"parent": 1, "name": b"a", "ino": 2, "mode": 0},
    Mkdir: {"parent": 1, "name": b"a", "ino": 2, "mode": 0},
    Link: {"parent": 1, "name": b"a", "ino": 2},
    Unlink: {"parent": 1, "name": b"a"},
    Rename: {"parent": 1, "name": b"a", "new_parent": 2, "new_name": b"b"},
    SetAttr: {"ino": 1},
    CommitData: {"ino": 1, "pieces": (Piece(0, 1),)},
}


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (Create, {"ino": 0}),
        (Create, {"ino": INO_MAX + 1}),
        (Create, {"parent": 0}),
        (Create, {"parent": -1}),
        (Create, {"mode": -1}),
        (Create, {"mode": MODE_MAX + 1}),
        (Create, {"rdev": -1}),
        (Create, {"rdev": RDEV_MAX + 1}),
        (Mkdir, {"mode": -1}),
        (Link, {"ino": 0}),
        (Unlink, {"parent": 0}),
        (Unlink, {"now_ns": TIME_NS_MAX + 1}),
        (Unlink, {"credentials": Credentials(-1, 0)}),
        (Unlink, {"credentials": Credentials(0, ID_MAX + 1)}),
        (Unlink, {"credentials": Credentials(0, 0, (5, -1))}),
        (Rename, {"new_parent": 0}),
        (SetAttr, {"mode": -1}),
        (SetAttr, {"uid": -1}),
        (SetAttr, {"uid": ID_MAX + 1}),
        (SetAttr, {"gid": ID_MAX + 1}),
        (SetAttr, {"size": -1}),
        (SetAttr, {"atime_ns": TIME_NS_MIN - 1}),
        (SetAttr, {"mtime_ns": TIME_NS_MAX + 1}),
        (CommitData, {"pieces": (Piece(-1, 1),)}),
        (CommitData, {"pieces": (Piece(0, -1),)}),
        (CommitData, {"pieces": (Piece(0, 1 << 64),)}),
    ],
    ids=str,
)
def test_out_of_range_is_einval(kind: type[AnyOp], wrong: dict[str, Any]) -> None:
    op = kind(**{**WHO, **SOUND[kind], **wrong})
    with pytest.raises(FsError) as caught:
        check_shape(op)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("kind", SOUND, ids=lambda kind: kind.__name__)
def test_sound_ops_pass(kind: type[AnyOp]) -> None:
    check_shape(kind(**{**WHO, **SOUND[kind]}))


def test_the_ends_of_every_range_pass() -> None:
    check_shape(
        SetAttr(
            ino=InodeId(INO_MAX),
            mode=MODE_MAX,
            uid=ID_MAX,
            gid=0,
            size=FILE_BYTES_MAX,
            atime_ns=TIME_NS_MIN,
            mtime_ns=TIME_NS_MAX,
            **WHO,
        )
    )


def test_apply_looks_at_the_shape_first() -> None:
    volume = Volume()
    assert volume.errno_of(Unlink, ROOT_USER, parent=0, name=b"a") == errno.EINVAL
    file = volume.create(ROOT, b"f", stat.S_IFREG | 0o644)
    assert volume.errno_of(SetAttr, ino=file.ino, size=1 << 63) == errno.EFBIG
