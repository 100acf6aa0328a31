"""A commit never relies on an upload from before a deletion (I1, I6)."""

from __future__ import annotations

import errno

import pytest

from dfs.core.namespace.keys import block_key
from dfs.core.namespace.ops import CommitData, Piece
from dfs.core.namespace.records import BlockRef, Record
from dfs.core.namespace.view import Missing, ScanRange
from dfs.errors import FsError
from dfs.meta.deletions import Deletions
from dfs.types import ROOT, ShardEpoch
from tests.unit.meta.rig import NOW_NS, USER, block_id, write_block


class Blocks:
    """A view of block counts."""

    def __init__(self, *numbers: int) -> None:
        self.records: dict[bytes, Record] = {
            block_key(block_id(number)): BlockRef(1, 65536) for number in numbers
        }

    def get(self, key: bytes, record_type: type[Record]) -> Record | None:
        return self.records.get(key)

    def scan(self, scan_range: ScanRange, record_type: type[Record]) -> list[tuple[bytes, Record]]:
        raise Missing(ranges=(scan_range,))


def check(deletions: Deletions, since: int | None, *known: int) -> None:
    deletions.check(Blocks(*known), write_block(7, 1, since=since))  # type: ignore[arg-type]


def test_uploads_from_before_a_deletion_are_refused_unless_the_block_is_counted() -> None:
    deletions = Deletions(ShardEpoch(3))
    before = deletions.number
    check(deletions, before)
    deletions.next_order()
    check(deletions, before)
    deletions.finish()
    assert deletions.number > before
    with pytest.raises(FsError) as caught:
        check(deletions, before)
    assert caught.value.errno == errno.EAGAIN
    check(deletions, before, 1)
    check(deletions, deletions.number)


def test_who_cannot_tell_is_believed() -> None:
    deletions = Deletions(ShardEpoch(1))
    deletions.next_order()
    deletions.finish()
    check(deletions, None)


def test_a_new_owner_refuses_all_uploads_from_before_its_time() -> None:
    old = Deletions(ShardEpoch(1))
    for _ in range(1000):
        old.next_order()
        old.finish()
    new = Deletions(ShardEpoch(2))
    assert new.next_order() > old.next_order()
    with pytest.raises(FsError, match="EAGAIN"):
        check(new, old.number)


def test_every_request_to_delete_has_a_greater_order() -> None:
    deletions = Deletions(ShardEpoch(1))
    orders = [deletions.next_order() for _ in range(5)]
    assert orders == sorted(set(orders))
    deletions.finish()
    assert deletions.number == orders[-1]


def test_content_without_blocks_relies_on_no_upload() -> None:
    deletions = Deletions(ShardEpoch(2))
    piece = Piece(offset=0, length=3, inline=b"abc")
    op = CommitData(credentials=USER, now_ns=NOW_NS, ino=ROOT, pieces=(piece,), uploaded_since=0)
    deletions.check(Blocks(), op)  # type: ignore[arg-type]
