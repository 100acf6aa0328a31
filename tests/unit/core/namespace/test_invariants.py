"""Goal: every rule that is broken is found, by the right check, and repairing ends in a sound
volume that lost no file. Method: break one record at a time in a small tree; repair until nothing
is found.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from dfs.core.namespace import invariants, keys
from dfs.core.namespace.invariants import CHECKS, RecordChecker
from dfs.core.namespace.ops import Link, Piece, Symlink, Unlink
from dfs.core.namespace.records import Dentry, Inode, Record, encode_record
from dfs.types import ROOT, BlockId, InodeId
from tests.unit.core.namespace.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK = BlockId(b"b" * 32)
DIRECTORY, SUBDIRECTORY, FILE, SYMLINK, ORPHAN = (InodeId(n) for n in range(2, 7))
HELD = frozenset({ORPHAN})


def make_volume() -> Volume:
    """/d/e, /d/f with content and also named /g, /d/s, and a held orphan."""
    volume = Volume()
    volume.mkdir(ROOT, b"d")
    volume.mkdir(DIRECTORY, b"e")
    volume.create(DIRECTORY, b"f")
    volume.do(Symlink, parent=DIRECTORY, name=b"s", target=b"t")
    volume.create(ROOT, b"o")
    volume.do(Unlink, parent=ROOT, name=b"o")
    volume.do(Link, ino=FILE, parent=ROOT, name=b"g")
    volume.commit(FILE, Piece(0, 10, inline=b"0123456789"), Piece(10, 50, BLOCK, 0, 100))
    volume.assert_sound(HELD)
    return volume


def change(volume: Volume, ino: InodeId, **fields: object) -> None:
    """Breaks an inode's record on the quiet."""
    volume.records[keys.inode_key(ino)] = replace(volume.inode(ino), **fields)


def repair(volume: Volume, passes: int = 8) -> None:
    """What fsck does: of every pass the repairs that do not touch each other, until all is
    sound."""
    for _ in range(passes):
        findings = volume.findings(HELD)
        written: dict[bytes, Record | None] = {}
        for finding in findings:
            if finding.is_error and not written.keys() & finding.repair.keys():
                written.update(finding.repair)
        for key, record in written.items():
            if record is None:
                volume.records.pop(key, None)
            else:
                volume.records[key] = record
        if not written:
            break
    assert [finding for finding in volume.findings(HELD) if finding.is_error] == []


def _put(key: bytes, record: Record) -> Callable[[Volume], None]:
    return lambda volume: volume.records.update({key: record})


def _drop(key: bytes) -> Callable[[Volume], None]:
    return lambda volume: volume.records.pop(key) and None


def _change(ino: InodeId, **fields: object) -> Callable[[Volume], None]:
    return lambda volume: change(volume, ino, **fields)


AS_FILE, AS_DIRECTORY = stat.S_IFREG, stat.S_IFDIR
ENTRY = keys.dentry_key
DAMAGES: list[tuple[str, Callable[[Volume], None]]] = [
    ("entries_lead_to_inodes", _put(ENTRY(ROOT, b"x"), Dentry(InodeId(77), AS_FILE))),
    ("entries_lead_to_inodes", _put(ENTRY(DIRECTORY, b"f"), Dentry(FILE, AS_DIRECTORY))),
    ("entries_in_directories", _put(ENTRY(FILE, b"x"), Dentry(FILE, AS_FILE))),
    ("entries_in_directories", _put(ENTRY(InodeId(77), b"x"), Dentry(FILE, AS_FILE))),
    ("link_counts", _change(FILE, nlink=1)),
    ("link_counts", _change(FILE, nlink=0)),
    ("link_counts", _change(DIRECTORY, nlink=2)),
    ("link_counts", _change(ROOT, nlink=0)),
    ("link_counts", _drop(ENTRY(DIRECTORY, b"s"))),
    ("link_counts", _drop(ENTRY(DIRECTORY, b"e"))),
    ("link_counts", _drop(ENTRY(ROOT, b"d"))),
    ("directories_have_one_name", _put(ENTRY(ROOT, b"x"), Dentry(SUBDIRECTORY, AS_DIRECTORY))),
    ("directories_have_one_name", _put(ENTRY(ROOT, b"x"), Dentry(ROOT, AS_DIRECTORY))),
    ("directories_have_one_name", _change(SUBDIRECTORY, parent=ROOT)),
    ("directory_sizes", _change(DIRECTORY, size=9)),
    ("directory_sizes", _change(ROOT, size=0)),
    ("symlinks", _change(SYMLINK, size=2)),
]


@pytest.mark.parametrize(("check", "damage"), DAMAGES, ids=[name for name, _ in DAMAGES])
def test_a_broken_rule_is_found_and_repaired(check: str, damage: Callable[[Volume], None]) -> None:
    volume = make_volume()
    damage(volume)
    found = {finding.check for finding in volume.findings(HELD) if finding.is_error}
    assert check in found
    repair(volume)
    assert volume.inode(FILE).size == 60
    assert volume.read(FILE, {BLOCK: b"b" * 100}) == b"0123456789" + b"b" * 50


def test_a_loop_is_cut_and_its_tree_found_again() -> None:
    volume = make_volume()
    # d moves into its own subdirectory behind our back.
    dentry = volume.records.pop(ENTRY(ROOT, b"d"))
    volume.records[ENTRY(SUBDIRECTORY, b"d")] = dentry
    change(volume, DIRECTORY, parent=SUBDIRECTORY)
    findings = volume.findings(HELD)
    assert [f.message for f in findings if f.check == "reachable"] == [
        f"directory {DIRECTORY} is its own ancestor"
    ]
    repair(volume)
    assert volume.inode(DIRECTORY).parent == ROOT
    found = volume.get(ENTRY(ROOT, b"lost-inode-%d" % DIRECTORY), Dentry)
    assert found == Dentry(DIRECTORY, AS_DIRECTORY)


def test_what_lost_its_name_gets_one_that_is_free() -> None:
    volume = make_volume()
    volume.create(ROOT, b"lost-inode-%d" % SYMLINK)
    del volume.records[ENTRY(DIRECTORY, b"s")]
    repair(volume)
    found = volume.get(ENTRY(ROOT, b"lost-inode-%d-" % SYMLINK), Dentry)
    assert found == Dentry(SYMLINK, stat.S_IFLNK)


@pytest.mark.parametrize("damage", [_drop(keys.inode_key(ROOT)), _change(ROOT, parent=DIRECTORY)])
def test_a_volume_without_its_root_is_told(damage: Callable[[Volume], None]) -> None:
    volume = make_volume()
    damage(volume)
    assert "reachable" in {finding.check for finding in volume.findings(HELD)}


def test_an_unreadable_record_stops_every_repair() -> None:
    """What it leads to looks lost, and "repairing" that would throw it away."""
    volume = make_volume()
    change(volume, SYMLINK, size=2)
    rows = {key: encode_record(record) for key, record in volume.records.items()}
    rows[keys.inode_key(DIRECTORY)] = b"\x02newer"
    checker = RecordChecker()
    for key in sorted(rows):
        checker.add(key, rows[key])
    findings = checker.finish(set(HELD))
    assert {"readable", "symlinks"} <= {finding.check for finding in findings}
    assert not any(finding.repair for finding in findings)
    messages = [f.message for f in findings if f.check == "entries_lead_to_inodes"]
    assert messages == []


def test_every_check_is_run() -> None:
    defined = {
        value
        for name, value in vars(invariants).items()
        if name.startswith("check_") and name != "check_orphans_held"
    }
    assert defined <= set(CHECKS)


def test_messages_name_what_they_are_about() -> None:
    volume = make_volume()
    change(volume, FILE, nlink=7)
    (finding,) = volume.findings(HELD)
    assert finding.message == f"inode {FILE}: nlink 7, counted 2"
    assert isinstance(finding.repair[keys.inode_key(FILE)], Inode)
