"""Goal: whatever bytes a row has, it is counted or becomes a finding. Method: random rows, and each
way in which a key or a value can be wrong.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfs.core.namespace import keys
from dfs.core.namespace.census import BlockUse, Census, Content, Finding, Name, of_inode
from dfs.core.namespace.invariants import RecordChecker
from dfs.core.namespace.records import (
    BlockRef,
    Counters,
    Dentry,
    Extent,
    Fence,
    Garbage,
    Orphan,
    Record,
    Xattr,
    encode_record,
)
from dfs.types import BlockId, InodeId, SessionId, ShardEpoch
from tests.unit.core.namespace.test_records import FILE, GOLDEN, SESSION

BLOCK = BlockId(b"b" * 32)
INO = FILE.ino
COUNTERS = Counters(InodeId(5), SessionId(6), 7, 8)


def _census(*rows: tuple[bytes, Record]) -> Census:
    census = Census()
    for key, record in sorted(rows):
        census.add(key, encode_record(record))
    return census


def test_rows_are_counted() -> None:
    census = _census(
        (keys.inode_key(INO), FILE),
        (keys.dentry_key(InodeId(1), b"f"), Dentry(ino=INO, file_type=0o100000)),
        (keys.xattr_key(INO, b"user.a"), Xattr(b"")),
        (keys.extent_key(INO, 0), Extent(0, 3, inline=b"abc")),
        (keys.extent_key(INO, 5), Extent(5, 10, BLOCK, 20)),
        (keys.extent_key(INO, 15), Extent(15, 10, BLOCK, 5)),
        (keys.block_key(BLOCK), BlockRef(2, 100)),
        (keys.garbage_key(BLOCK), Garbage()),
        (keys.orphan_key(INO), Orphan()),
        (keys.session_key(SessionId(1)), SESSION),
        (keys.COUNTERS_KEY, COUNTERS),
        (keys.FENCE_KEY, Fence(ShardEpoch(1), 1)),
    )
    assert census.inodes == {INO: FILE}
    assert census.names == [Name(InodeId(1), b"f", INO, 0o100000)]
    assert census.names[0].key == keys.dentry_key(InodeId(1), b"f")
    assert census.xattr_counts == {INO: 1}
    assert census.contents == {INO: Content(stored_bytes=23, end=25)}
    assert census.block_uses == {BLOCK: BlockUse(2, 30, keys.extent_key(INO, 5))}
    assert census.block_refs == {BLOCK: BlockRef(2, 100)}
    assert (census.garbage, census.orphans) == ({BLOCK}, {INO})
    assert (census.sessions, census.counters) == ([SESSION], COUNTERS)
    assert census.row_count == 12
    assert census.unreadable == census.overlapping == []


@pytest.mark.parametrize(
    "key",
    [
        b"\0",
        b"\0\0I",
        b"\0\0?12345678",
        b"\0\0I1234567",
        b"\0\0O123456789",
        b"\0\0E12345678",
        b"\0\0D12345678",
        b"\0\0D" + bytes(8) + b"name",
        b"\0\0X12345678" + b"n" * 256,
        b"\0\0B" + b"b" * 31,
        b"\0\0Z" + b"b" * 33,
        b"\0\0C",
    ],
)
def test_unknown_keys_are_findings(key: bytes) -> None:
    census = Census()
    census.add(key, encode_record(Orphan()))
    assert [(f.check, f.key, f.is_error) for f in census.unreadable] == [("readable", key, True)]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (keys.inode_key(INO), b"", "cannot be read"),
        (keys.inode_key(INO), b"\x02\x90", "newer dfs"),
        (keys.inode_key(INO), b"\x01\xff\xff", "cannot be read"),
        (keys.block_key(BLOCK), b"\x01\x93\x01\x00\xc2", "breaks its own rules"),
        (keys.inode_key(InodeId(9)), encode_record(FILE), "says that it is 2"),
        (keys.extent_key(INO, 7), encode_record(Extent(8, 1, BLOCK)), "at offset 8"),
        (keys.COUNTERS_KEY, b"\x01\x90", "cannot be read"),
        (keys.FENCE_KEY, b"\x01\x90", "cannot be read"),
        (keys.session_key(SessionId(1)), b"\x01\x90", "cannot be read"),
        (keys.xattr_key(INO, b"user.a"), b"\x01\x90", "cannot be read"),
        (keys.orphan_key(INO), b"\x01\xa0", "cannot be read"),
    ],
)
def test_unreadable_records_are_findings(key: bytes, value: bytes, message: str) -> None:
    census = Census()
    census.add(key, value)
    (finding,) = census.unreadable
    assert (finding.key, finding.repair) == (key, {})
    assert message in finding.message


def test_overlapping_extents_are_findings() -> None:
    census = _census(
        (keys.extent_key(INO, 0), Extent(0, 10, BLOCK)),
        (keys.extent_key(INO, 9), Extent(9, 10, BLOCK)),
        (keys.extent_key(InodeId(5), 0), Extent(0, 10, BLOCK)),
    )
    assert [finding.key for finding in census.overlapping] == [keys.extent_key(INO, 9)]


def test_rows_come_in_order() -> None:
    census = _census((keys.orphan_key(INO), Orphan()))
    with pytest.raises(AssertionError):
        census.add(keys.orphan_key(INO), encode_record(Orphan()))


def test_a_finding_about_an_inode_offers_it_repaired() -> None:
    finding = of_inode("sizes", FILE, "is wrong", FILE)
    key = keys.inode_key(INO)
    assert finding == Finding("sizes", key, "inode 2: is wrong", repair={key: FILE})


tags = st.sampled_from(keys.TABLES).map(lambda tag: b"\0\0" + tag)
random_keys = st.builds(bytes.__add__, tags, st.binary(max_size=48))
golden_values = [bytes.fromhex(golden) for _, golden in GOLDEN]
random_values = st.one_of(
    st.binary(max_size=64),
    st.sampled_from(golden_values),
    st.builds(
        lambda value, at, byte: value[:at] + bytes([byte]) + value[at + 1 :],
        st.sampled_from(golden_values),
        st.integers(0, 40),
        st.integers(0, 255),
    ),
)


@settings(max_examples=400)
@given(st.dictionaries(st.one_of(random_keys, st.binary(min_size=1)), random_values, max_size=8))
def test_no_bytes_raise(rows: dict[bytes, bytes]) -> None:
    checker = RecordChecker()
    for key in sorted(rows):
        if key:
            checker.add(key, rows[key])
    for finding in checker.finish(set()):
        assert finding.message
        assert "\n" not in finding.message
