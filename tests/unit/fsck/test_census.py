"""Goal: every kind of damaged record is found, named by its path, and mended where that is safe.

Method: one damage at a time under the real metadata server; fsck, fsck --repair, fsck again.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, NamedTuple

import pytest
from msgspec.structs import replace

from dfs.client.files import Files
from dfs.core.namespace import keys
from dfs.core.namespace.records import (
    BlockRef,
    Counters,
    Dentry,
    Extent,
    Garbage,
    Inode,
    Orphan,
    Xattr,
)
from dfs.engine.api import Row, SnapshotLost
from dfs.engine.memory_engine import MemoryEngine
from dfs.fsck.census import check_words
from dfs.types import ROOT, BlockId, InodeId
from tests.unit.client.rig import BLOCK, ROOT_USER
from tests.unit.fsck.rig import INODES, LARGE, LARGE_BLOCKS, Scene, said, volume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import trio.testing

    from dfs.core.namespace.records import Record

pytestmark = pytest.mark.expects_warnings  # servers are killed and see damaged records

NOBODY = InodeId(4000)
UNKNOWN = BlockId(bytes(range(32)))

Changes = dict[bytes, "Record | bytes | None"]


class Damage(NamedTuple):
    """What is done to the records, and what fsck must say."""

    changes: Callable[[Scene], Changes]
    lines: tuple[str, ...]


def _inode(path: str, **fields: object) -> Callable[[Scene], Changes]:
    def changes(scene: Scene) -> Changes:
        key = keys.inode_key(scene.ino[path])
        return {key: replace(scene.record(key, Inode), **fields)}

    return changes


def _entry(
    parent: str, name: bytes, path: str | None, file_type: int
) -> Callable[[Scene], Changes]:
    def changes(scene: Scene) -> Changes:
        ino = scene.ino[path] if path else NOBODY
        return {keys.dentry_key(scene.ino[parent], name): Dentry(ino=ino, file_type=file_type)}

    return changes


def _no_entry(parent: str, name: bytes) -> Callable[[Scene], Changes]:
    return lambda scene: {keys.dentry_key(scene.ino[parent], name): None}


def _ref(**fields: object) -> Callable[[Scene], Changes]:
    def changes(scene: Scene) -> Changes:
        key = keys.block_key(scene.blocks()[0])
        return {key: replace(scene.record(key, BlockRef), **fields)}

    return changes


def _ring(scene: Scene) -> Changes:
    """/dir moves into its own subdirectory."""
    top, sub = scene.ino["/dir"], scene.ino["/dir/sub"]
    return {
        keys.dentry_key(ROOT, b"dir"): None,
        keys.dentry_key(sub, b"dir"): Dentry(ino=top, file_type=stat.S_IFDIR),
        keys.inode_key(top): replace(scene.record(keys.inode_key(top), Inode), parent=sub),
    }


def _nameless(scene: Scene) -> Changes:
    """/dir/small lost its name, and its mark as an orphan."""
    key = keys.inode_key(scene.ino["/dir/small"])
    return {
        keys.dentry_key(scene.ino["/dir"], b"small"): None,
        key: replace(scene.record(key, Inode), nlink=0),
    }


def _extent(**fields: object) -> Callable[[Scene], Changes]:
    """The second extent of LARGE is another one."""

    def changes(scene: Scene) -> Changes:
        extent = replace(scene.extents(LARGE)[1], **fields)
        return {keys.extent_key(scene.ino[LARGE], BLOCK): extent}

    return changes


def _overlap(scene: Scene) -> Changes:
    """The second extent of LARGE begins a little earlier."""
    ino, extent = scene.ino[LARGE], scene.extents(LARGE)[1]
    moved = replace(extent, offset=BLOCK - 5)
    return {keys.extent_key(ino, BLOCK): None, keys.extent_key(ino, moved.offset): moved}


def _counters(**fields: object) -> Callable[[Scene], Changes]:
    return lambda scene: {
        keys.COUNTERS_KEY: replace(scene.record(keys.COUNTERS_KEY, Counters), **fields)
    }


MENDED = {
    "link count of a file": Damage(
        _inode(LARGE, nlink=5),
        ("error: /dir/large: inode {ino}: nlink 5, counted 1 (link counts)",),
    ),
    "link count of a directory": Damage(
        _inode("/dir", nlink=9), ("error: /dir: inode", "nlink 9, counted 3")
    ),
    "dangling entry": Damage(
        _entry("/dir", b"ghost", None, stat.S_IFREG),
        ("error: /dir/ghost: entry b'ghost' of directory", "leads to inode 4000, which does not"),
    ),
    "inode that no name leads to": Damage(
        _no_entry("/dir", b"small"), ("nlink 1, but no name leads to it", "size 3, but 2 entries")
    ),
    "directory that no name leads to": Damage(
        _no_entry("/", b"dir"), ("nlink 3, but no name leads to it",)
    ),
    "entry of another type": Damage(
        _entry("/dir", b"small", "/dir/small", stat.S_IFIFO),
        ("error: /dir/small: entry b'small'", "has another type"),
    ),
    "entry in a file": Damage(
        _entry("/dir/small", b"x", LARGE, stat.S_IFREG),
        ("error: /dir/small/x: entry", "is in what is no directory"),
    ),
    "second name of a directory": Damage(
        _entry("/", b"again", "/dir/sub", stat.S_IFDIR), ("is a second name of directory",)
    ),
    "wrong parent": Damage(_inode("/dir/sub", parent=ROOT), ("parent 1, but it is in",)),
    "size of a directory": Damage(_inode("/dir", size=7), ("size 7, but 3 entries",)),
    "ring of directories": Damage(_ring, ("is its own ancestor",)),
    "symlink's size": Damage(_inode("/link", size=1), ("error: /link: inode", "size 1, target 9")),
    "size of a file": Damage(
        _inode(LARGE, size=5), ("error: /dir/large: inode", f"content to {LARGE_BLOCKS * BLOCK}")
    ),
    "stored bytes": Damage(_inode(LARGE, stored_bytes=5), ("stored_bytes 5, extents hold",)),
    "count of attributes": Damage(_inode(LARGE, xattr_count=3), ("xattr_count 3, counted 0",)),
    "count too high": Damage(
        _ref(count=7), ("error: /dir/large: block", "counts 7 references, 1 extents name it (I6")
    ),
    "count too low": Damage(_ref(count=0), ("counts 0 references, 1 extents",)),
    "block without a count": Damage(
        lambda scene: {keys.block_key(scene.blocks()[0]): None},
        ("error: /dir/large: block", "is named by 1 extents but has no count (I6"),
    ),
    "condemned though named": Damage(
        _ref(count=0, is_condemned=True), ("and it is condemned (I6 reference counts)",)
    ),
    "not in the garbage queue": Damage(
        lambda scene: {keys.block_key(UNKNOWN): BlockRef(count=0, length=9)},
        (f"error: block {UNKNOWN.hex()}: block", "unused but not in the garbage queue (I6"),
    ),
    "in the garbage queue": Damage(
        lambda scene: {keys.garbage_key(scene.blocks()[0]): Garbage()},
        ("error: /dir/large: block", "in the garbage queue but in use"),
    ),
    "missing mark of an orphan": Damage(
        _nameless, ("has no name, but is not marked as an orphan",)
    ),
    "mark of a named inode": Damage(
        lambda scene: {keys.orphan_key(scene.ino[LARGE]): Orphan()},
        ("error: /dir/large: inode", "is marked as an orphan but has a name"),
    ),
    "extents of nothing": Damage(
        lambda scene: {keys.extent_key(NOBODY, 0): Extent(offset=0, length=3, inline=b"abc")},
        ("error: inode 4000: inode 4000: ", "(content)"),
    ),
    "attribute of nothing": Damage(
        lambda scene: {keys.xattr_key(NOBODY, b"user.x"): Xattr(value=b"")},
        ("error: inode 4000: inode 4000: ", "(xattr counts)"),
    ),
    "totals": Damage(
        _counters(inode_count=70, stored_bytes=1, next_ino=InodeId(2)),
        ("error: volume counters: the volume's counters are",),
    ),
}
"""What --repair puts right."""

LEFT = {
    "overlapping extents": Damage(
        _overlap, ("error: /dir/large: extents of inode {ino} overlap at offset 65531 (extents",)
    ),
    "unreadable record": Damage(
        lambda scene: {keys.inode_key(scene.ino["/link"]): b"\x01nonsense"},
        ("error: /link: Inode at", "cannot be read"),
    ),
    "record of a newer dfs": Damage(
        lambda scene: {keys.inode_key(scene.ino["/link"]): b"\x63more"},
        ("error: /link: Inode at", "record format 99 was written by a newer dfs"),
    ),
    "empty record": Damage(
        lambda scene: {keys.inode_key(scene.ino["/link"]): b""}, ("error: /link: Inode at",)
    ),
    "unknown key": Damage(
        lambda scene: {b"\0\0Qx": b"\x01"}, ("error: key 00005178: unknown key",)
    ),
    "extent beyond its block": Damage(
        _extent(block_offset=9), ("error: /dir/large: an extent of inode {ino} ends at 65545",)
    ),
}
"""What nobody can put right without losing something: it stays an error."""


def _assert_said(scene: Scene, damage: Damage, lines: list[str]) -> None:
    text = "\n".join(lines)
    for line in damage.lines:
        assert line.format(ino=scene.ino[LARGE]) in text
    assert all(line.startswith(("error: ", "warning: ")) for line in lines)


@pytest.mark.parametrize("name", MENDED)
async def test_found_and_mended(name: str, autojump_clock: trio.testing.MockClock) -> None:
    async with volume() as scene:
        await scene.damage(MENDED[name].changes(scene))
        report = await scene.check()
        assert not report.is_clean
        assert report.repaired == []
        _assert_said(scene, MENDED[name], said(report))
        repaired = await scene.check(repair=True)
        assert repaired.problems == []
        assert repaired.repaired
        rows = scene.rows()
        again = await scene.check(repair=True)
        assert (again.problems, again.repaired) == ([], [])
        assert scene.rows() == rows


@pytest.mark.parametrize("name", LEFT)
async def test_found_and_left(name: str, autojump_clock: trio.testing.MockClock) -> None:
    async with volume() as scene:
        await scene.damage(LEFT[name].changes(scene))
        rows = scene.rows()
        for is_repairing in (False, True):
            report = await scene.check(repair=is_repairing)
            assert not report.is_clean
            _assert_said(scene, LEFT[name], said(report))
            assert report.repaired == []
        assert scene.rows() == rows


async def test_unreadable_records_stop_all_repairs(autojump_clock: trio.testing.MockClock) -> None:
    async with volume() as scene:
        unreadable = {keys.inode_key(scene.ino["/link"]): b"\x01nonsense"}
        await scene.damage({**unreadable, **_inode(LARGE, nlink=5)(scene)})
        report = await scene.check(repair=True)
        assert report.repaired == []
        assert any("nothing was repaired" in line for line in said(report))
        assert scene.record(keys.inode_key(scene.ino[LARGE]), Inode).nlink == 5


async def test_a_lost_file_keeps_its_content(autojump_clock: trio.testing.MockClock) -> None:
    """It gets a name in the root, another one than what is there."""
    async with volume() as scene:
        ino = scene.ino["/dir/small"]
        taken = b"lost-inode-%d" % ino
        async with scene.rig.client() as client:
            await Files(client, ROOT_USER).write_bytes(b"/" + taken, b"other")
        await scene.damage(_no_entry("/dir", b"small")(scene))
        assert (await scene.check(repair=True)).is_clean
        async with scene.rig.client() as client:
            files = Files(client, ROOT_USER)
            assert await files.read_bytes(b"/" + taken) == b"other"
            assert await files.read_bytes(b"/" + taken + b"-") == b"inline"


async def test_much_damage_at_once(autojump_clock: trio.testing.MockClock) -> None:
    async with volume() as scene:
        changes: Changes = {}
        for name in ("link count of a file", "dangling entry", "count too high", "totals"):
            changes |= MENDED[name].changes(scene)
        for number in range(100):
            key = keys.block_key(BlockId(number.to_bytes(32, "big")))
            changes[key] = BlockRef(count=1, length=5)
        await scene.damage(changes)
        assert (await scene.check()).error_count > 100
        report = await scene.check(repair=True)
        assert report.problems == []
        assert len(report.repaired) > 100


async def test_orphans_are_no_problem(autojump_clock: trio.testing.MockClock) -> None:
    async with volume() as scene, scene.rig.client() as client:
        files = Files(client, ROOT_USER)
        async with files.open("/dir/small") as file:
            await files.unlink("/dir/small")
            report = await scene.check()
            assert (report.orphans, report.problems) == (1, [])
            assert await file.read(0, 10) == b"inline"


async def test_a_moment_that_the_engine_loses(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that grows may have to end an export: the census is taken anew."""
    whole_export = MemoryEngine.export
    begun: list[int] = []

    def export(engine: MemoryEngine, start: bytes, end: bytes) -> Iterator[list[Row]]:
        begun.append(len(begun))
        for number, page in enumerate(whole_export(engine, start, end)):
            yield page[:3] if begun == [0] else page
            if begun == [0]:
                assert number == 0
                raise SnapshotLost("the store grew meanwhile")

    monkeypatch.setattr(MemoryEngine, "export", export)
    async with volume() as scene:
        report = await scene.check()
        assert begun == [0, 1]
        assert (report.problems, report.inodes) == ([], len(INODES))


def test_names_of_checks() -> None:
    assert check_words("reference_counts") == "I6 reference counts"
    assert check_words("link_counts") == "link counts"
