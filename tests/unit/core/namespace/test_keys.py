"""Goal: keys sort as the tables need it and never change. Method: golden bytes, and order over
pairs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfs.core.namespace import keys
from dfs.limits import NAME_BYTES_MAX, XATTR_NAME_BYTES_MAX
from dfs.types import BlockId, InodeId, ServerId, SessionId

INO = InodeId(0x0001_0000_0000_0203)
BLOCK = BlockId(bytes(range(32)))
inos = st.integers(1, (1 << 64) - 1).map(InodeId)
names = st.binary(min_size=1, max_size=NAME_BYTES_MAX)


@pytest.mark.parametrize(
    ("key", "golden"),
    [
        (keys.inode_key(INO), "000149" + "0001000000000203"),
        (keys.inode_key(InodeId(1)), "000049" + "0000000000000001"),
        (keys.dentry_key(INO, b"name"), "000144" + "0001000000000203" + "6e616d65"),
        (keys.xattr_key(INO, b"user.a"), "000158" + "0001000000000203" + "757365722e61"),
        (keys.extent_key(INO, 4096), "000145" + "0001000000000203" + "0000000000001000"),
        (keys.block_key(BLOCK), "000042" + bytes(range(32)).hex()),
        (keys.garbage_key(BLOCK), "00005a" + bytes(range(32)).hex()),
        (keys.orphan_key(INO), "00014f" + "0001000000000203"),
        (keys.session_key(SessionId(7)), "000053" + "0000000000000007"),
        (keys.FENCE_KEY, "000043" + b"fence".hex()),
        (keys.VOLUME_KEY, "000043" + b"volume".hex()),
        (keys.COUNTERS_KEY, "000043" + b"counters".hex()),
        (keys.MAP_KEY, "000043" + b"map".hex()),
        (keys.server_key(ServerId("ab")), "000043" + b"server/ab".hex()),
    ],
)
def test_keys_are_what_disks_hold(key: bytes, golden: str) -> None:
    assert key.hex() == golden


def test_table_tags_never_change() -> None:
    assert b"".join(keys.TABLES) == b"IDXEBZOSC"


@given(inos, names, st.integers(0, (1 << 63) - 1))
def test_what_goes_in_comes_out(ino: InodeId, name: bytes, offset: int) -> None:
    of_inode = [
        keys.inode_key(ino),
        keys.orphan_key(ino),
        keys.dentry_key(ino, name),
        keys.xattr_key(ino, name),
        keys.extent_key(ino, offset),
    ]
    assert {keys.ino_of(key) for key in of_inode} == {ino}
    assert keys.name_of(of_inode[2]) == keys.name_of(of_inode[3]) == name
    assert keys.offset_of(of_inode[4]) == offset
    assert [keys.table_of(key) for key in of_inode] == [b"I", b"O", b"D", b"X", b"E"]
    assert keys.block_id_of(keys.block_key(BLOCK)) == keys.block_id_of(keys.garbage_key(BLOCK))
    assert keys.shard_of(ino) == ino >> 48


@given(inos, inos, names, names)
def test_a_directory_is_one_range(ino: InodeId, other: InodeId, name: bytes, after: bytes) -> None:
    start, end = keys.dentry_range(ino)
    assert start <= keys.dentry_key(ino, name) < end
    assert (start <= keys.dentry_key(other, name) < end) == (ino == other)
    after_start, after_end = keys.dentry_range(ino, after)
    assert after_end == end
    assert (after_start <= keys.dentry_key(ino, name)) == (name > after)


@given(inos, st.integers(0, 1 << 40), st.integers(0, 1 << 40), st.integers(0, 1 << 40))
def test_extents_sort_by_offset(ino: InodeId, start: int, end: int, offset: int) -> None:
    low, high = keys.extent_range(ino, start, end)
    assert (low <= keys.extent_key(ino, offset) < high) == (start <= offset < end)
    whole = keys.extent_range(ino)
    assert whole[0] <= keys.extent_key(ino, offset) < whole[1]


@given(inos, inos, names)
def test_attributes_of_an_inode_are_one_range(ino: InodeId, other: InodeId, name: bytes) -> None:
    start, end = keys.xattr_range(ino)
    assert start <= keys.xattr_key(ino, name) < end
    assert (start <= keys.xattr_key(other, name) < end) == (ino == other)


def test_tables_and_servers_are_ranges() -> None:
    start, end = keys.table_range(keys.BLOCK)
    assert start <= keys.block_key(BLOCK) < end <= keys.table_range(keys.CONFIG)[0]
    start, end = keys.server_range()
    assert start <= keys.server_key(ServerId("0")) < keys.server_key(ServerId("f" * 16)) < end
    assert not start <= keys.MAP_KEY < end


@pytest.mark.parametrize(
    ("prefix", "after"), [(b"a", b"b"), (b"a\xff", b"b"), (b"\0\xff\xff", b"\x01")]
)
def test_after_prefix_is_the_next_key(prefix: bytes, after: bytes) -> None:
    assert keys.after_prefix(prefix) == after


@pytest.mark.parametrize("name", [b"", b"n" * (NAME_BYTES_MAX + 1)])
def test_names_out_of_bounds_are_our_bug(name: bytes) -> None:
    with pytest.raises(AssertionError):
        keys.dentry_key(INO, name)
    with pytest.raises(AssertionError):
        keys.xattr_key(INO, name)
    assert NAME_BYTES_MAX == XATTR_NAME_BYTES_MAX


@pytest.mark.parametrize("key", [b"", b"\0\0I", b"\0\0?x"])
def test_what_is_no_key_is_our_bug(key: bytes) -> None:
    with pytest.raises(AssertionError):
        keys.table_of(key)
