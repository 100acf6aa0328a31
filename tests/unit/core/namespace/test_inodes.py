"""Goal: an inode is found by number, or the errno says why not; its identity never changes."""

from __future__ import annotations

import errno
import stat

import pytest
from msgspec.structs import replace

from dfs.core.namespace.inodes import get_directory, get_inode, put_inode
from dfs.core.namespace.view import Missing, Overlay
from dfs.errors import FsError
from dfs.types import InodeId
from tests.unit.core.namespace.volume import ROOT, Forgetful, Volume


def test_a_number_without_a_record_is_stale() -> None:
    for read in (get_inode, get_directory):
        with pytest.raises(FsError) as caught:
            read(Volume(), InodeId(99))
        assert caught.value.errno == errno.ESTALE


def test_a_file_is_no_directory() -> None:
    volume = Volume()
    file = volume.create(ROOT, b"f")
    assert get_inode(volume, file.ino) == file
    assert get_directory(volume, ROOT).ino == ROOT
    with pytest.raises(FsError) as caught:
        get_directory(volume, file.ino)
    assert caught.value.errno == errno.ENOTDIR


def test_what_is_not_in_memory_is_asked_for() -> None:
    with pytest.raises(Missing):
        get_inode(Forgetful(Volume()), ROOT)


def test_type_and_birth_never_change() -> None:
    volume = Volume()
    file = volume.create(ROOT, b"f")
    overlay = Overlay(volume)
    with pytest.raises(AssertionError):
        put_inode(overlay, replace(file, mode=stat.S_IFIFO | 0o644))
    with pytest.raises(AssertionError):
        put_inode(overlay, replace(file, btime_ns=0))
    put_inode(overlay, replace(file, size=1))
    assert get_inode(overlay, file.ino).size == 1
