from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from dfs.core.namespace.keys import dentry_key, xattr_key
from dfs.core.namespace.records import Dentry, Record, Xattr
from dfs.engine.api import EngineLimits
from dfs.errors import DfsError, NoSpace
from dfs.limits import ENGINE_BATCH_RECORDS_MAX
from dfs.meta.batches import Batch, BatchFull
from dfs.types import ROOT, InodeId

if TYPE_CHECKING:
    from dfs.core.namespace.view import ScanRange


class Nothing:
    """A view of an empty volume."""

    def get(self, key: bytes, record_type: type[Record]) -> None:
        return None

    def scan(self, scan_range: ScanRange, record_type: type[Record]) -> list[tuple[bytes, Record]]:
        return []


class Ear:
    """Hears what becomes of a batch."""

    def __init__(self) -> None:
        self.heard: list[DfsError | None] = []

    def on_landed(self) -> None:
        self.heard.append(None)

    def on_failed(self, error: DfsError) -> None:
        self.heard.append(error)


def batch(**limits: int) -> Batch:
    return Batch(Nothing(), EngineLimits(**limits))  # type: ignore[arg-type]


def names(start: int, count: int) -> dict[bytes, Record | None]:
    return {
        dentry_key(ROOT, b"%05d" % n): Dentry(InodeId(n + 1), 0o100000)
        for n in range(start, start + count)
    }


def test_changes_join_as_a_whole_or_not_at_all() -> None:
    open_batch = batch()
    open_batch.absorb(names(0, 600))
    with pytest.raises(BatchFull):
        open_batch.absorb(names(600, 500))
    assert open_batch.changes.keys() == names(0, 600).keys()
    open_batch.absorb(names(0, 600))
    open_batch.absorb(names(600, 300))
    assert len(open_batch.changes) == 900 < ENGINE_BATCH_RECORDS_MAX


def test_an_empty_batch_takes_what_no_batch_would() -> None:
    """So that an op that is too large fails by itself and does not wait forever."""
    open_batch = batch(batch_records_max=10)
    open_batch.absorb(names(0, 50))
    with pytest.raises(BatchFull):
        open_batch.absorb(names(50, 1))


def test_bytes_count_too() -> None:
    open_batch = batch()
    large = Xattr(bytes(60_000))
    for number in range(17):
        open_batch.absorb({xattr_key(ROOT, b"user.%d" % number): large})
    with pytest.raises(BatchFull):
        open_batch.absorb({xattr_key(ROOT, b"user.more"): large})


def test_it_knows_whether_it_changes_anything_in_a_range() -> None:
    open_batch = batch()
    open_batch.absorb({dentry_key(ROOT, b"b"): None})
    changes_in = open_batch.overlay.changes_in
    assert changes_in(dentry_key(ROOT, b"a"), dentry_key(ROOT, b"c"))
    assert changes_in(dentry_key(ROOT, b"b"), dentry_key(ROOT, b"c"))
    assert not changes_in(dentry_key(ROOT, b"a"), dentry_key(ROOT, b"b"))
    assert not changes_in(dentry_key(ROOT, b"c"), dentry_key(ROOT, b"d"))


@pytest.mark.parametrize("error", [None, NoSpace("full")])
async def test_everyone_hears_what_became_of_it(error: DfsError | None) -> None:
    open_batch, ear, told = batch(), Ear(), list[bool]()
    open_batch.absorb(names(0, 1))
    open_batch.follow(ear)
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            told.append(await open_batch.has_landed())

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        assert told == ear.heard == []
        open_batch.end(error)
        assert ear.heard == [error], "followers hear before anybody else can act"
    assert told == [error is None]
    assert open_batch.sealed.is_set()
    if error is None:
        await open_batch.landed()
    else:
        for _ in range(2):
            with pytest.raises(NoSpace, match="full"):
                await open_batch.landed()
