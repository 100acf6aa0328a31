from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfs.core.namespace.keys import (
    after_prefix,
    block_key,
    dentry_key,
    dentry_range,
    extent_key,
    extent_range,
    garbage_key,
    inode_key,
    table_range,
)
from dfs.core.namespace.records import Dentry, Garbage, Record
from dfs.core.namespace.view import ScanRange
from dfs.meta.pages import Page, PageCache, shelf_of, shelf_of_range
from dfs.types import ROOT, InodeId
from tests.unit.meta.rig import block_id


def dentry(number: int) -> Dentry:
    return Dentry(InodeId(number), 0o100000)


def key(number: int) -> bytes:
    return dentry_key(ROOT, b"%03d" % number)


SHELF = shelf_of(key(1))
WHOLE = ScanRange(SHELF, after_prefix(SHELF), 1000)


def test_a_shelf_is_an_inodes_part_of_a_table_or_a_whole_table() -> None:
    assert shelf_of(key(1)) == shelf_of(dentry_key(ROOT, b"x" * 255))
    assert shelf_of(key(1)) != shelf_of(dentry_key(InodeId(2), b"x"))
    assert shelf_of(extent_key(ROOT, 0)) != shelf_of(inode_key(ROOT))
    assert shelf_of(garbage_key(block_id(1))) == shelf_of(garbage_key(block_id(2)))
    assert shelf_of(garbage_key(block_id(1))) != shelf_of(block_key(block_id(1)))
    assert shelf_of_range(ScanRange(*dentry_range(ROOT, b"x"), 1)) == SHELF
    assert shelf_of_range(ScanRange(*extent_range(ROOT, 5), 1)) == shelf_of(extent_key(ROOT, 0))
    assert shelf_of_range(ScanRange(*table_range(b"Z"), 1)) == table_range(b"Z")[0]
    with pytest.raises(AssertionError):
        shelf_of_range(ScanRange(*table_range(b"I"), 1))


def test_a_page_answers_only_what_it_covers() -> None:
    page = Page(key(10), key(20), {key(n): dentry(n) for n in (12, 15, 18)})
    assert page.answer(ScanRange(key(11), key(20), 9)) == [key(12), key(15), key(18)]
    assert page.answer(ScanRange(key(11), key(20), 2)) == [key(12), key(15)]
    assert page.answer(ScanRange(key(11), key(30), 3)) == [key(12), key(15), key(18)]
    assert page.answer(ScanRange(key(11), key(30), 4)) is None
    assert page.answer(ScanRange(key(9), key(20), 1)) is None
    assert page.answer(ScanRange(key(20), key(30), 1)) is None


def test_a_page_answers_backwards_too() -> None:
    page = Page(key(10), key(20), {key(n): dentry(n) for n in (12, 15, 18)})
    assert page.answer(ScanRange(key(0), key(19), 2, is_reverse=True)) == [key(18), key(15)]
    assert page.answer(ScanRange(key(10), key(16), 9, is_reverse=True)) == [key(15), key(12)]
    assert page.answer(ScanRange(key(0), key(16), 3, is_reverse=True)) is None
    assert page.answer(ScanRange(key(0), key(21), 1, is_reverse=True)) is None
    assert page.answer(ScanRange(key(0), key(20), 1, is_reverse=True)) == [key(18)]


def test_pages_that_touch_become_one() -> None:
    cache = PageCache(1000)
    cache.add(SHELF, Page(SHELF, key(10), {key(5): dentry(5)}))
    cache.add(SHELF, Page(key(20), after_prefix(SHELF), {key(25): dentry(25)}))
    assert cache.scan(WHOLE) is None
    assert cache.is_begun(SHELF)
    cache.add(SHELF, Page(key(10), key(20), {}))
    assert cache.scan(WHOLE) == [(key(5), dentry(5)), (key(25), dentry(25))]
    page = cache.page_of(key(99))
    assert page is not None
    assert key(99) not in page.records


def test_commits_are_carried_in() -> None:
    cache = PageCache(1000)
    cache.add(SHELF, Page(SHELF, key(10), {key(5): dentry(5)}))
    cache.patch(key(7), dentry(7))
    cache.patch(key(5), None)
    cache.patch(key(6), None)
    cache.patch(key(11), dentry(11))
    cache.patch(garbage_key(block_id(1)), Garbage())
    assert cache.scan(ScanRange(SHELF, key(10), 5)) == [(key(7), dentry(7))]


@given(st.integers(0, 1 << 32))
def test_what_it_answers_is_what_a_scan_finds(seed: int) -> None:
    """Random pages of a changing table, against the table itself."""
    chance = random.Random(seed)
    table: dict[bytes, Record] = {key(n): dentry(n) for n in range(40) if chance.random() < 0.5}
    cache = PageCache(chance.choice([5, 1000]))
    for _ in range(40):
        start, end = sorted(chance.sample(range(41), 2))
        if chance.random() < 0.4:
            rows = {k: r for k, r in table.items() if key(start) <= k < key(end)}
            cache.add(SHELF, Page(key(start), key(end), rows))
        elif chance.random() < 0.5:
            changed = chance.randrange(40)
            record = dentry(chance.randrange(1000)) if chance.random() < 0.5 else None
            cache.patch(key(changed), record)
            table.pop(key(changed), None)
            if record is not None:
                table[key(changed)] = record
        is_reverse = chance.random() < 0.5
        asked = ScanRange(key(start), key(end), chance.randrange(1, 10), is_reverse)
        inside = sorted(k for k in table if key(start) <= k < key(end))
        expected = (inside[::-1] if is_reverse else inside)[: asked.limit]
        found = cache.scan(asked)
        assert found is None or found == [(k, table[k]) for k in expected]
        cache.trim()
