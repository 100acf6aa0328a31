"""Goal: records written by any dfs can be read by every later one. Method: golden bytes both ways,
and records shortened to the fields that an older dfs knew; wrong records are caught where they are
made.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dfs.core.namespace.records import (
    FORMAT_VERSION,
    BlockRef,
    Config,
    Counters,
    Dentry,
    Extent,
    Fence,
    Garbage,
    Inode,
    MapRecord,
    Orphan,
    Record,
    ServerRecord,
    SessionRecord,
    Xattr,
    decode_record,
    encode_record,
)
from dfs.errors import FormatTooNew
from dfs.limits import INLINE_BYTES_MAX, LINK_COUNT_MAX
from dfs.types import (
    BlockId,
    ClusterId,
    InodeId,
    MapEpoch,
    OpNumber,
    ServerId,
    SessionId,
    ShardEpoch,
)

BLOCK = BlockId(bytes(range(32)))
FILE = Inode(
    ino=InodeId(2),
    mode=0o100644,
    uid=1000,
    gid=1001,
    rdev=0,
    nlink=1,
    size=5,
    atime_ns=-1,
    mtime_ns=2,
    ctime_ns=3,
    btime_ns=4,
    parent=InodeId(0),
    xattr_count=1,
    stored_bytes=5,
    data_version=6,
)
SYMLINK = msgspec.structs.replace(FILE, mode=0o120777, size=1, target=b"t")
DIRECTORY = msgspec.structs.replace(FILE, mode=0o40755, nlink=2, parent=InodeId(1))
SESSION = SessionRecord(
    SessionId(1),
    "host",
    OpNumber(9),
    ((OpNumber(8), 2),),
    InodeId(10),
    InodeId(20),
    may_remember=True,
)

GOLDEN: list[tuple[Record, str]] = [
    (FILE, "01dc001002cd81a4cd03e8cd03e9000105ff02030400c400010506"),
    (SYMLINK, "01dc001002cda1ffcd03e8cd03e9000101ff02030400c40174010506"),
    (Dentry(ino=InodeId(2), file_type=0o100000), "019202cd8000"),
    (Xattr(b"v"), "0191c40176"),
    (Extent(0, 3, inline=b"abc"), "01950003c40000c403616263"),
    (Extent(4096, 5, BLOCK, 7), "0195cd100005c420" + BLOCK.hex() + "07c400"),
    (BlockRef(2, 100), "01930264c2"),
    (BlockRef(0, 100, is_condemned=True), "01930064c3"),
    (Garbage(), "0190"),
    (Orphan(), "0190"),
    (SESSION, "019801a4686f737409919208020a14c3c2"),
    (Fence(ShardEpoch(3), 4), "01920304"),
    (Config(ClusterId("c"), 1 << 20, 2, 1), "0194a163ce001000000201"),
    (Counters(InodeId(5), SessionId(6), 7, 8), "019405060708"),
    (ServerRecord(ServerId("s"), "h:1", "z", 9), "0195a173a3683a31a17a09c2"),
    (MapRecord(MapEpoch(3)), "019103"),
]


@pytest.mark.parametrize(("record", "golden"), GOLDEN, ids=lambda value: type(value).__name__)
def test_bytes_never_change(record: Record, golden: str) -> None:
    assert encode_record(record).hex() == golden
    assert decode_record(type(record), bytes.fromhex(golden)) == record


def test_every_record_has_golden_bytes() -> None:
    assert {type(record) for record, _ in GOLDEN} == set(Record.__subclasses__())


def test_a_record_of_an_older_dfs_gets_defaults() -> None:
    old = msgspec.msgpack.decode(encode_record(FILE)[1:])[:12]
    value = bytes((FORMAT_VERSION,)) + msgspec.msgpack.encode(old)
    expected = msgspec.structs.replace(FILE, xattr_count=0, stored_bytes=0, data_version=0)
    assert decode_record(Inode, value) == expected


def test_fields_that_a_newer_dfs_appended_are_passed_over() -> None:
    newer = [*msgspec.msgpack.decode(encode_record(BlockRef(1, 2))[1:]), "new"]
    value = bytes((FORMAT_VERSION,)) + msgspec.msgpack.encode(newer)
    assert decode_record(BlockRef, value) == BlockRef(1, 2)


def test_a_newer_format_is_refused_by_name() -> None:
    with pytest.raises(FormatTooNew, match="record format 2 was written by a newer dfs"):
        decode_record(Orphan, b"\x02\x90")


@pytest.mark.parametrize("value", [b"\x01", b"\x01\x90", b"\x01\xc1", b"\x01\x92\xa1a\x01"])
def test_damage_is_a_decode_error(value: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_record(Dentry, value)


WRONG_INODES: list[dict[str, Any]] = [
    {"ino": 0},
    {"nlink": -1},
    {"nlink": LINK_COUNT_MAX + 1},
    {"size": -1},
    {"xattr_count": -1},
    {"stored_bytes": -1},
    {"mode": 0o644},
    {"parent": 1},
    {"target": b"t"},
]


@pytest.mark.parametrize("wrong", WRONG_INODES, ids=str)
def test_a_wrong_inode_is_our_bug(wrong: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        encode_record(msgspec.structs.replace(FILE, **wrong))


@pytest.mark.parametrize(
    "wrong",
    [
        Extent(-1, 1, BLOCK),
        Extent(0, 0, BLOCK),
        Extent(0, 2, inline=b"a"),
        Extent(INLINE_BYTES_MAX, 1, inline=b"a"),
        Extent(0, 1, inline=b"a", block_offset=1),
        Extent(0, 1, BlockId(b"short")),
        Extent(0, 1, BLOCK, inline=b"a"),
        Extent(0, 1, BLOCK, -1),
        BlockRef(-1, 1),
        BlockRef(0, 0),
        BlockRef(1, 1, is_condemned=True),
    ],
    ids=str,
)
def test_a_wrong_extent_or_count_is_our_bug(wrong: Record) -> None:
    with pytest.raises(AssertionError):
        encode_record(wrong)


def test_types_are_told_by_the_mode() -> None:
    kinds = [(i.is_file, i.is_directory, i.is_symlink) for i in (FILE, DIRECTORY, SYMLINK)]
    assert kinds == [(True, False, False), (False, True, False), (False, False, True)]


def test_an_extent_ends_after_its_bytes() -> None:
    assert Extent(4096, 5, BLOCK).end == 4101
    assert Extent(0, 1, inline=b"a").is_inline
    assert not Extent(0, 1, BLOCK).is_inline
