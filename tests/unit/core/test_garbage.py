"""Goal: a block's count equals the extents that name it, and no condemned block is named again
(I6). Method: every transition of the table at the head of garbage.py, and every one that is not in
it.
"""

from __future__ import annotations

import errno

import pytest

from dfs.core import garbage
from dfs.core.namespace.keys import block_key, garbage_key
from dfs.core.namespace.records import BlockRef, Garbage
from dfs.core.namespace.view import Overlay
from dfs.errors import FsError
from dfs.limits import BLOCK_BYTES_MAX
from dfs.types import BlockId
from tests.unit.core.namespace.volume import Records

BLOCK = BlockId(b"b" * 32)


def _state(overlay: Overlay) -> tuple[BlockRef | None, bool]:
    ref = overlay.get(block_key(BLOCK), BlockRef)
    return ref, overlay.get(garbage_key(BLOCK), Garbage) is not None


def test_references_are_counted_up_and_down() -> None:
    overlay = Overlay(Records())
    garbage.add_reference(overlay, BLOCK, 100)
    garbage.add_reference(overlay, BLOCK, 100, count=2)
    assert _state(overlay) == (BlockRef(3, 100), False)
    garbage.drop_reference(overlay, BLOCK, count=2)
    assert _state(overlay) == (BlockRef(1, 100), False)
    garbage.drop_reference(overlay, BLOCK)
    assert _state(overlay) == (BlockRef(0, 100), True)


def test_garbage_can_be_named_again() -> None:
    overlay = Overlay(Records())
    garbage.add_reference(overlay, BLOCK, 100)
    garbage.drop_reference(overlay, BLOCK)
    garbage.add_reference(overlay, BLOCK, 100)
    assert _state(overlay) == (BlockRef(1, 100), False)


def test_a_condemned_block_is_refused_until_it_is_forgotten() -> None:
    overlay = Overlay(Records())
    garbage.add_reference(overlay, BLOCK, 100)
    garbage.drop_reference(overlay, BLOCK)
    assert garbage.condemn(overlay, BLOCK)
    assert _state(overlay) == (BlockRef(0, 100, is_condemned=True), True)
    with pytest.raises(FsError) as caught:
        garbage.add_reference(overlay, BLOCK, 100)
    assert caught.value.errno == errno.EAGAIN
    garbage.forget(overlay, BLOCK)
    assert _state(overlay) == (None, False)
    garbage.add_reference(overlay, BLOCK, 50)
    assert _state(overlay) == (BlockRef(1, 50), False)


def test_a_block_in_use_is_never_condemned() -> None:
    overlay = Overlay(Records())
    garbage.add_reference(overlay, BLOCK, 100)
    assert not garbage.condemn(overlay, BLOCK)
    assert _state(overlay) == (BlockRef(1, 100), False)


def test_a_block_that_no_op_ever_named_goes_the_same_way() -> None:
    overlay = Overlay(Records())
    assert garbage.condemn(overlay, BLOCK, 77)
    assert _state(overlay) == (BlockRef(0, 77, is_condemned=True), True)
    assert garbage.condemn(overlay, BLOCK)
    garbage.forget(overlay, BLOCK)
    assert _state(overlay) == (None, False)
    with pytest.raises(AssertionError):
        garbage.condemn(overlay, BLOCK)


def test_a_block_has_one_length() -> None:
    overlay = Overlay(Records())
    garbage.add_reference(overlay, BLOCK, 100)
    with pytest.raises(FsError) as caught:
        garbage.add_reference(overlay, BLOCK, 101)
    assert caught.value.errno == errno.EINVAL


def test_a_count_that_is_too_low_is_damage_and_named() -> None:
    overlay = Overlay(Records())
    for prepare in (lambda: None, lambda: garbage.add_reference(overlay, BLOCK, 100)):
        prepare()
        with pytest.raises(FsError, match="run dfs fsck") as caught:
            garbage.drop_reference(overlay, BLOCK, count=2)
        assert caught.value.errno == errno.EIO


def test_what_is_not_condemned_is_not_forgotten() -> None:
    overlay = Overlay(Records())
    with pytest.raises(AssertionError):
        garbage.forget(overlay, BLOCK)
    garbage.add_reference(overlay, BLOCK, 100)
    with pytest.raises(AssertionError):
        garbage.forget(overlay, BLOCK)


@pytest.mark.parametrize(
    ("block_id", "length", "count"),
    [(b"short", 1, 1), (BLOCK, 0, 1), (BLOCK, BLOCK_BYTES_MAX + 1, 1), (BLOCK, 1, 0)],
)
def test_nonsense_is_our_bug(block_id: bytes, length: int, count: int) -> None:
    with pytest.raises(AssertionError):
        garbage.add_reference(Overlay(Records()), BlockId(block_id), length, count=count)
