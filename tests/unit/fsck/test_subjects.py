"""Goal: what a record belongs to is named as people can find it. Method: censuses made by hand."""

from __future__ import annotations

import stat

import pytest

from dfs.core.namespace import keys
from dfs.core.namespace.census import BlockUse, Census, Name
from dfs.fsck.subjects import DEPTH_MAX, Subjects, text_of
from dfs.types import ROOT, BlockId, InodeId, SessionId

BLOCK_ID = BlockId(b"\xab" * 32)


def _name(parent: int, name: bytes, ino: int) -> Name:
    return Name(InodeId(parent), name, InodeId(ino), stat.S_IFREG)


def _subjects(*names: Name) -> Subjects:
    return Subjects(Census(names=list(names)))


def test_paths() -> None:
    subjects = _subjects(_name(1, b"a", 2), _name(2, b"b", 3), _name(2, b"c", 3))
    assert subjects.of_inode(ROOT) == "/"
    assert subjects.of_inode(InodeId(2)) == "/a"
    assert subjects.of_inode(InodeId(3)) == "/a/b"
    assert subjects.of_inode(InodeId(9)) == "inode 9"


def test_what_hangs_nowhere() -> None:
    ring = _subjects(_name(3, b"a", 2), _name(2, b"b", 3), _name(9, b"c", 4))
    assert ring.of_inode(InodeId(2)) == "inode 2"
    assert ring.of_inode(InodeId(4)) == "inode 4"
    assert DEPTH_MAX > 1000


@pytest.mark.parametrize(
    ("key", "subject"),
    [
        (keys.inode_key(InodeId(2)), "/a"),
        (keys.xattr_key(InodeId(2), b"user.x"), "/a"),
        (keys.extent_key(InodeId(2), 0), "/a"),
        (keys.orphan_key(InodeId(7)), "inode 7"),
        (keys.dentry_key(ROOT, b"a"), "/a"),
        (keys.dentry_key(InodeId(2), b"b"), "/a/b"),
        (keys.dentry_key(InodeId(7), b"b"), "inode 7/b"),
        (keys.block_key(BLOCK_ID), f"block {BLOCK_ID.hex()}"),
        (keys.garbage_key(BLOCK_ID), f"block {BLOCK_ID.hex()}"),
        (keys.session_key(SessionId(5)), "session 5"),
        (keys.COUNTERS_KEY, "volume counters"),
        (b"\0\0", "key 0000"),
        (b"\0\0?xyz", "key 00003f78797a"),
    ],
)
def test_keys(key: bytes, subject: str) -> None:
    assert _subjects(_name(1, b"a", 2)).of_key(key) == subject


def test_blocks() -> None:
    use = BlockUse(count=1, end=5, key=keys.extent_key(InodeId(2), 0))
    census = Census(names=[_name(1, b"a", 2)], block_uses={BLOCK_ID: use})
    assert Subjects(census).of_block(BLOCK_ID) == "/a"
    use.count = 3
    assert Subjects(census).of_block(BLOCK_ID) == "/a (and 2 more extents)"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (b"plain", "plain"),
        ("Größe".encode(), "Größe"),
        (b"two\nlines\t", "two\\nlines\\t"),
        (b"\xff\x00", "\\xff\\x00"),
        ("\u202etxt".encode(), "\\u202etxt"),
    ],
)
def test_any_name_is_one_line_of_text(name: bytes, text: str) -> None:
    assert text_of(name) == text
    assert text_of(name).encode()
