"""Goal: names lead where they should, lists come in pages by name, and a directory counts its
entries."""

from __future__ import annotations

import errno
from functools import partial

import pytest

from dfs.core.namespace.directories import (
    count_entries,
    drop_name,
    find,
    is_dots,
    lookup,
    put_entry,
    read_directory,
    require_empty,
    walk_to,
)
from dfs.core.namespace.keys import inode_key
from dfs.core.namespace.ops import SetAttr
from dfs.core.namespace.view import Overlay
from dfs.errors import FsError
from dfs.limits import NAME_BYTES_MAX
from dfs.types import InodeId
from tests.unit.core.namespace.volume import ALICE, BOB, ROOT, ROOT_USER, Volume, with_fetches


@pytest.fixture
def volume() -> Volume:
    return Volume()


def _errno(parent: int, name: bytes, volume: Volume) -> int:
    with pytest.raises(FsError) as caught:
        with_fetches(volume, lambda view: lookup(view, InodeId(parent), name))
    return caught.value.errno


def test_lookup_follows_names_and_dots(volume: Volume) -> None:
    directory = volume.mkdir(ROOT, b"d")
    file = volume.create(directory.ino, b"f")
    assert lookup(volume, ROOT, b"d") == volume.inode(directory.ino)
    assert lookup(volume, directory.ino, b"f") == file
    assert lookup(volume, directory.ino, b".").ino == directory.ino
    assert lookup(volume, directory.ino, b"..").ino == ROOT
    assert lookup(volume, ROOT, b"..").ino == ROOT


def test_lookup_says_why_not(volume: Volume) -> None:
    file = volume.create(ROOT, b"f")
    assert _errno(99, b"f", volume) == errno.ESTALE
    assert _errno(file.ino, b"f", volume) == errno.ENOTDIR
    assert _errno(ROOT, b"g", volume) == errno.ENOENT
    assert _errno(ROOT, b"", volume) == errno.ENOENT
    assert _errno(ROOT, b"n" * (NAME_BYTES_MAX + 1), volume) == errno.ENAMETOOLONG


def test_an_entry_without_its_inode_is_damage_and_named(volume: Volume) -> None:
    file = volume.create(ROOT, b"f")
    del volume.records[inode_key(file.ino)]
    assert _errno(ROOT, b"f", volume) == errno.EIO
    assert read_directory(volume, ROOT, b"", 10) == []


def test_a_directory_is_listed_in_pages_by_name(volume: Volume) -> None:
    names = [b"\x01", b"a", b"a\xff", b"b", b"\xff" * NAME_BYTES_MAX]
    made = {name: volume.create(ROOT, name) for name in reversed(names)}
    listed = []
    after = b""
    while page := with_fetches(volume, partial(read_directory, ino=ROOT, after=after, limit=2)):
        assert len(page) <= 2
        listed.extend(page)
        after = page[-1][0]
    assert listed == [(name, made[name]) for name in names]


def test_only_directories_are_listed(volume: Volume) -> None:
    file = volume.create(ROOT, b"f")
    for ino, expected in ((file.ino, errno.ENOTDIR), (InodeId(99), errno.ESTALE)):
        with pytest.raises(FsError) as caught:
            read_directory(volume, ino, b"", 1)
        assert caught.value.errno == expected


def test_a_walk_needs_search_permission(volume: Volume) -> None:
    directory = volume.mkdir(ROOT, b"d", 0o700)
    volume.do(SetAttr, ino=directory.ino, uid=ALICE.uid)
    assert walk_to(volume, directory.ino, ALICE).ino == directory.ino
    assert walk_to(volume, directory.ino, ROOT_USER).ino == directory.ino
    with pytest.raises(FsError) as caught:
        walk_to(volume, directory.ino, BOB)
    assert caught.value.errno == errno.EACCES


def test_a_place_is_found_whether_it_is_taken_or_not(volume: Volume) -> None:
    file = volume.create(ROOT, b"f")
    root = volume.inode(ROOT)
    assert find(volume, root, b"f").inode == file
    assert find(volume, root, b"g").inode is None
    assert find(volume, root, b"g").directory == root


def test_dots_are_no_entries(volume: Volume) -> None:
    assert [is_dots(name) for name in (b".", b"..", b"...", b".a")] == [True, True, False, False]
    with pytest.raises(AssertionError):
        find(volume, volume.inode(ROOT), b".")


def test_counting_keeps_size_links_and_times(volume: Volume) -> None:
    overlay = Overlay(volume)
    count_entries(overlay, ROOT, 77, entries=2, subdirectories=1)
    root = lookup(overlay, ROOT, b".")
    assert (root.size, root.nlink, root.mtime_ns, root.ctime_ns) == (2, 3, 77, 77)
    with pytest.raises(FsError, match="run dfs fsck") as caught:
        count_entries(overlay, ROOT, 78, entries=-2, subdirectories=0)
    assert caught.value.errno == errno.EIO


def test_the_last_name_leaves_an_orphan(volume: Volume) -> None:
    file = volume.create(ROOT, b"f")
    overlay = Overlay(volume)
    orphan = drop_name(overlay, file, 77)
    assert (orphan.nlink, orphan.ctime_ns) == (0, 77)
    with pytest.raises(AssertionError):
        drop_name(overlay, orphan, 78)
    with pytest.raises(AssertionError):
        put_entry(overlay, ROOT, b"f", orphan)


def test_only_a_full_directory_is_not_empty(volume: Volume) -> None:
    directory = volume.mkdir(ROOT, b"d")
    file = volume.create(directory.ino, b"f")
    require_empty(file)
    require_empty(directory)
    with pytest.raises(FsError) as caught:
        require_empty(volume.inode(directory.ino))
    assert caught.value.errno == errno.ENOTEMPTY
