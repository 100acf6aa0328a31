from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from dfs.core.namespace.keys import dentry_key, inode_key
from dfs.core.namespace.ops import Create, Link, Mkdir, RemoveXattr, Rename, SetAttr, Symlink
from dfs.core.namespace.records import Dentry, Inode, Record
from dfs.meta.outcomes import outcome_again
from dfs.types import ROOT, InodeId
from tests.unit.meta.rig import FILE_MODE, NOW_NS, USER, unlink, write_block

if TYPE_CHECKING:
    from dfs.core.namespace.ops import ClientOp
    from dfs.core.namespace.view import ScanRange

FILE = Inode(InodeId(7), FILE_MODE, 0, 0, 0, 1, 0, 1, 2, 3, 4, InodeId(0))
DIRECTORY = replace(FILE, ino=ROOT, mode=0o40755, parent=ROOT, nlink=2)
CREATE = Create(
    credentials=USER, now_ns=NOW_NS, parent=ROOT, name=b"a", ino=InodeId(7), mode=FILE_MODE
)


class Now:
    """The records of now: the root, and the file under `names`."""

    def __init__(self, *names: bytes, has_file: bool = True) -> None:
        self.records: dict[bytes, Record] = {inode_key(ROOT): DIRECTORY}
        if has_file:
            self.records[inode_key(FILE.ino)] = FILE
        for name in names:
            self.records[dentry_key(ROOT, name)] = Dentry(FILE.ino, 0o100000)

    def get(self, key: bytes, record_type: type[Record]) -> Record | None:
        return self.records.get(key)

    def scan(self, scan_range: ScanRange, record_type: type[Record]) -> list[tuple[bytes, Record]]:
        raise AssertionError("nothing needs a range")


def op_of(kind: type[ClientOp], **fields: object) -> ClientOp:
    return kind(credentials=USER, now_ns=NOW_NS, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "op",
    [
        CREATE,
        op_of(Mkdir, parent=ROOT, name=b"a", ino=FILE.ino, mode=0o755),
        op_of(Symlink, parent=ROOT, name=b"a", ino=FILE.ino, target=b"t"),
        op_of(Link, parent=ROOT, name=b"b", ino=FILE.ino),
        op_of(SetAttr, ino=FILE.ino, mode=0o600),
        op_of(RemoveXattr, ino=FILE.ino, name=b"user.a"),
        write_block(FILE.ino, 1),
    ],
)
def test_ops_on_an_inode_are_told_by_the_inode_of_now(op: ClientOp) -> None:
    outcome = outcome_again(Now(), op)  # type: ignore[arg-type]
    assert outcome.errno == 0
    assert outcome.result is not None
    assert outcome.result.inode == FILE


@pytest.mark.parametrize(
    "op",
    [
        op_of(Link, parent=ROOT, name=b"b", ino=FILE.ino),
        op_of(SetAttr, ino=FILE.ino, mode=0o600),
        op_of(RemoveXattr, ino=FILE.ino, name=b"user.a"),
        write_block(FILE.ino, 1),
    ],
)
def test_changes_of_what_is_gone_are_told_so(op: ClientOp) -> None:
    gone = outcome_again(Now(has_file=False), op)  # type: ignore[arg-type]
    assert (gone.errno, gone.result) == (errno.ESTALE, None)


@pytest.mark.parametrize("names", [(), (b"a",)], ids=["the name is free", "the name is taken"])
@pytest.mark.parametrize(
    "op",
    [
        replace(CREATE, ino=InodeId(99), is_exclusive=True),
        op_of(Mkdir, parent=ROOT, name=b"a", ino=InodeId(99), mode=0o755),
        op_of(Symlink, parent=ROOT, name=b"a", ino=InodeId(99), target=b"t"),
    ],
)
def test_what_was_made_and_is_gone_is_told_as_it_was_made(
    op: ClientOp, names: tuple[bytes, ...]
) -> None:
    """Others may have seen it before they removed it."""
    now = Now(*names)
    before = dict(now.records)
    outcome = outcome_again(now, op)  # type: ignore[arg-type]
    assert outcome.errno == 0
    assert outcome.result is not None
    inode = outcome.result.inode
    assert inode is not None
    assert (inode.ino, inode.uid, inode.btime_ns) == (99, USER.uid, NOW_NS)
    assert now.records == before


def test_what_was_made_where_nothing_is_left_is_told_as_gone() -> None:
    op = op_of(Mkdir, parent=InodeId(50), name=b"a", ino=InodeId(99), mode=0o755)
    assert outcome_again(Now(), op).errno == errno.ESTALE  # type: ignore[arg-type]


def test_what_took_a_name_away_is_told_as_done() -> None:
    rename = op_of(Rename, parent=ROOT, name=b"a", new_parent=ROOT, new_name=b"b")
    for op in (unlink(b"a"), rename):
        outcome = outcome_again(Now(has_file=False), op)  # type: ignore[arg-type]
        assert outcome.errno == 0
        assert outcome.result is not None
        assert outcome.result.inode is None


def test_a_create_that_found_the_name_taken_is_told_by_the_name() -> None:
    op = replace(CREATE, ino=InodeId(99), is_exclusive=False)
    outcome = outcome_again(Now(b"a"), op)  # type: ignore[arg-type]
    assert outcome.result is not None
    assert outcome.result.inode == FILE
    assert not outcome.result.is_new
    assert outcome_again(Now(), op).errno == errno.ENOENT  # type: ignore[arg-type]
