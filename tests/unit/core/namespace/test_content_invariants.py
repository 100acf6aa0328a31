"""Goal: wrong sums, counts and marks of content are found and mended (I6). Method: as
test_invariants."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from dfs.core.namespace import content_invariants, keys
from dfs.core.namespace.content_invariants import CONTENT_CHECKS
from dfs.core.namespace.ops import SetXattr
from dfs.core.namespace.records import (
    BlockRef,
    Counters,
    Dentry,
    Extent,
    Garbage,
    Orphan,
    SessionRecord,
    Xattr,
    encode_record,
)
from dfs.limits import INLINE_BYTES_MAX
from dfs.types import ROOT, BlockId, InodeId, OpNumber, SessionId
from tests.unit.core.namespace.test_invariants import (
    BLOCK,
    DIRECTORY,
    FILE,
    HELD,
    ORPHAN,
    _change,
    _drop,
    _put,
    change,
    make_volume,
    repair,
)
from tests.unit.core.namespace.volume import RecordChecker, Volume

if TYPE_CHECKING:
    from collections.abc import Callable

OTHER = BlockId(b"o" * 32)
GONE = InodeId(77)


def _counters(**fields: object) -> Callable[[Volume], None]:
    def damage(volume: Volume) -> None:
        counters = volume.get(keys.COUNTERS_KEY, Counters)
        assert counters is not None
        volume.records[keys.COUNTERS_KEY] = replace(counters, **fields)

    return damage


def _in_use(volume: Volume) -> None:
    volume.records[keys.garbage_key(BLOCK)] = Garbage()


REPAIRABLE: list[tuple[str, Callable[[Volume], None]]] = [
    ("content", _change(FILE, size=20)),
    ("content", _change(FILE, stored_bytes=20)),
    ("content", _change(DIRECTORY, stored_bytes=20)),
    ("content", _put(keys.extent_key(GONE, 0), Extent(0, 3, inline=b"abc"))),
    ("content", _drop(keys.extent_key(FILE, 0))),
    ("xattr_counts", _change(FILE, xattr_count=3)),
    ("xattr_counts", _put(keys.xattr_key(FILE, b"user.a"), Xattr(b""))),
    ("xattr_counts", _put(keys.xattr_key(GONE, b"user.a"), Xattr(b""))),
    ("reference_counts", _put(keys.block_key(BLOCK), BlockRef(2, 100))),
    ("reference_counts", _put(keys.block_key(BLOCK), BlockRef(0, 100, is_condemned=True))),
    ("reference_counts", _put(keys.block_key(OTHER), BlockRef(1, 100))),
    ("reference_counts", _put(keys.extent_key(FILE, 60), Extent(60, 5, BLOCK))),
    ("garbage_queue", _put(keys.block_key(OTHER), BlockRef(0, 100))),
    ("garbage_queue", _put(keys.garbage_key(OTHER), Garbage())),
    ("garbage_queue", _in_use),
    ("orphans", _drop(keys.orphan_key(ORPHAN))),
    ("orphans", _put(keys.orphan_key(FILE), Orphan())),
    ("orphans", _put(keys.orphan_key(GONE), Orphan())),
    ("counters", _counters(next_ino=ORPHAN)),
    ("counters", _counters(inode_count=1)),
    ("counters", _counters(stored_bytes=1)),
]


@pytest.mark.parametrize(("check", "damage"), REPAIRABLE, ids=[name for name, _ in REPAIRABLE])
def test_a_broken_rule_is_found_and_repaired(check: str, damage: Callable[[Volume], None]) -> None:
    volume = make_volume()
    damage(volume)
    assert check in {finding.check for finding in volume.findings(HELD) if finding.is_error}
    repair(volume)


@pytest.mark.parametrize(
    ("check", "damage"),
    [
        ("content", _put(keys.extent_key(DIRECTORY, 0), Extent(0, 1, BLOCK))),
        ("extents_apart", _put(keys.extent_key(FILE, 20), Extent(20, 5, BLOCK))),
        ("reference_counts", _drop(keys.block_key(BLOCK))),
        ("blocks_hold_extents", _put(keys.block_key(BLOCK), BlockRef(1, 49))),
        ("counters", _drop(keys.COUNTERS_KEY)),
    ],
)
def test_what_only_people_can_judge_is_told_without_a_repair(
    check: str, damage: Callable[[Volume], None]
) -> None:
    volume = make_volume()
    damage(volume)
    found = [finding for finding in volume.findings(HELD) if finding.check == check]
    assert any(finding.is_error and not finding.repair for finding in found)


def test_inline_bytes_beyond_the_head_are_told() -> None:
    volume = make_volume()
    rows = {key: encode_record(record) for key, record in volume.records.items()}
    key = keys.extent_key(FILE, INLINE_BYTES_MAX)
    value = encode_record(Extent(0, 1, inline=b"x"))
    rows[key] = value.replace(b"\x95\x00", b"\x95\xcd" + INLINE_BYTES_MAX.to_bytes(2, "big"))
    checker = RecordChecker()
    for row in sorted(rows):
        checker.add(row, rows[row])
    found = {finding.check: finding.key for finding in checker.finish(set(HELD))}
    assert found["inline_at_head"] == found["readable"] == key


def test_what_a_lost_inode_leaves_becomes_a_file_again() -> None:
    volume = make_volume()
    volume.do(SetXattr, ino=FILE, name=b"user.a", value=b"v")
    del volume.records[keys.inode_key(FILE)]
    for name in ((ROOT, b"g"), (DIRECTORY, b"f")):
        del volume.records[keys.dentry_key(*name)]
    repair(volume)
    found = volume.get(keys.dentry_key(ROOT, b"lost-inode-%d" % FILE), Dentry)
    assert found == Dentry(FILE, stat.S_IFREG)
    inode = volume.inode(FILE)
    assert (inode.size, inode.stored_bytes, inode.xattr_count) == (60, 60, 1)
    assert inode.mode == stat.S_IFREG | 0o600
    assert volume.read(FILE, {BLOCK: b"b" * 100}) == b"0123456789" + b"b" * 50


def test_orphans_and_holds_are_worth_knowing_but_no_errors() -> None:
    volume = make_volume()
    findings = volume.findings(frozenset({GONE}))
    assert [(f.check, f.is_error) for f in findings] == [("orphans_held", False)] * 2
    assert {keys.ino_of(f.key) for f in findings} == {ORPHAN, GONE}


def test_numbers_of_sessions_are_never_given_out_again() -> None:
    volume = make_volume()
    session = SessionRecord(SessionId(9), "host", OpNumber(0), (), InodeId(1000), InodeId(2000))
    volume.records[keys.session_key(session.session_id)] = session
    repair(volume)
    counters = volume.get(keys.COUNTERS_KEY, Counters)
    assert counters is not None
    assert (counters.next_ino, counters.next_session) == (2000, 10)


def test_a_condemned_block_in_use_says_so() -> None:
    volume = make_volume()
    volume.records[keys.block_key(BLOCK)] = BlockRef(0, 100, is_condemned=True)
    messages = [f.message for f in volume.findings(HELD) if f.check == "reference_counts"]
    assert messages == [
        f"block {BLOCK.hex()} counts 0 references, 1 extents name it, and it is condemned"
    ]


def test_a_shrunken_size_is_grown_to_its_content() -> None:
    volume = make_volume()
    change(volume, FILE, size=0)
    repair(volume)
    assert volume.inode(FILE).size == 60


def test_every_check_is_run() -> None:
    defined = {
        value
        for name, value in vars(content_invariants).items()
        if name.startswith("check_") and name != "check_orphans_held"
    }
    assert defined == set(CONTENT_CHECKS)
