"""Goal: every op reaches its meaning, changes nothing on the base, and depends on nothing but
itself."""

from __future__ import annotations

import stat

import pytest

from dfs.core.namespace.apply import apply
from dfs.core.namespace.ops import (
    AnyOp,
    CommitData,
    Create,
    Link,
    Mkdir,
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
from dfs.core.namespace.view import Missing, Overlay
from dfs.errors import FsError
from dfs.types import InodeId
from tests.unit.core.namespace.volume import ROOT, ROOT_USER, START_NS, Forgetful, Volume

WHO = {"credentials": ROOT_USER, "now_ns": START_NS + 1000}
FILE, DIRECTORY, ORPHAN, NEW = InodeId(2), InodeId(3), InodeId(4), InodeId(50)
OPS: list[AnyOp] = [
    Create(parent=ROOT, name=b"n", ino=NEW, mode=stat.S_IFREG, **WHO),
    Mkdir(parent=ROOT, name=b"n", ino=NEW, mode=0o755, **WHO),
    Symlink(parent=ROOT, name=b"n", ino=NEW, target=b"t", **WHO),
    Link(ino=FILE, parent=ROOT, name=b"n", **WHO),
    Unlink(parent=ROOT, name=b"f", **WHO),
    Rmdir(parent=ROOT, name=b"d", **WHO),
    Rename(parent=ROOT, name=b"f", new_parent=DIRECTORY, new_name=b"n", **WHO),
    SetAttr(ino=FILE, mode=0, **WHO),
    SetXattr(ino=FILE, name=b"user.n", value=b"", **WHO),
    RemoveXattr(ino=FILE, name=b"user.a", **WHO),
    CommitData(ino=FILE, pieces=(Piece(0, 1, inline=b"n"),), **WHO),
    Reclaim(ino=ORPHAN, **WHO),
    TrimTail(ino=FILE, size=1, **WHO),
]


@pytest.fixture
def volume() -> Volume:
    """A file with content and an attribute, an empty directory, and an orphan."""
    volume = Volume()
    volume.create(ROOT, b"f")
    volume.mkdir(ROOT, b"d")
    volume.create(ROOT, b"o")
    volume.do(Unlink, parent=ROOT, name=b"o")
    volume.do(SetXattr, ino=FILE, name=b"user.a", value=b"")
    volume.commit(FILE, Piece(0, 5, inline=b"hello"))
    return volume


def test_every_op_is_tried_here() -> None:
    assert {type(op) for op in OPS} == set(AnyOp.__args__)


@pytest.mark.parametrize("op", OPS, ids=lambda op: type(op).__name__)
def test_an_op_changes_its_overlay_alone_and_always_the_same_way(volume: Volume, op: AnyOp) -> None:
    before = dict(volume.records)
    first, second = Overlay(volume), Overlay(Overlay(volume))
    result = apply(first, op)
    assert apply(second, op) == result
    assert first.changes == second.changes
    assert first.changes
    assert volume.records == before
    volume.apply(op)
    volume.assert_sound(frozenset({ORPHAN, *result.orphans} & volume_orphans(volume)))


def volume_orphans(volume: Volume) -> set[InodeId]:
    return {InodeId(int.from_bytes(k[3:], "big")) for k in volume.records if k[2:3] == b"O"}


@pytest.mark.parametrize("op", OPS, ids=lambda op: type(op).__name__)
def test_an_op_over_a_batch_sees_what_went_before(volume: Volume, op: AnyOp) -> None:
    """Stacked overlays answer as if the earlier op were committed."""
    earlier = SetAttr(ino=ROOT, mode=0o700, **WHO)
    batch = Overlay(volume)
    apply(batch, earlier)
    own = Overlay(batch)
    stacked = apply(own, op)
    volume.apply(earlier)
    committed = Overlay(volume)
    assert apply(committed, op) == stacked
    assert own.changes == committed.changes


@pytest.mark.parametrize("op", OPS, ids=lambda op: type(op).__name__)
def test_rounds_of_fetching_are_few(volume: Volume, op: AnyOp) -> None:
    """What an op reads independently it asks for at once: every round costs the server a wait."""
    view = Forgetful(volume)
    for rounds in range(10):
        try:
            apply(Overlay(view), op)
        except Missing as missing:
            view.fetch(missing)
        else:
            assert rounds <= 4
            return
    pytest.fail("it keeps asking for more")


def test_errors_are_answers(volume: Volume) -> None:
    with pytest.raises(FsError, match="ENOENT"):
        apply(Overlay(volume), Unlink(parent=ROOT, name=b"absent", **WHO))
