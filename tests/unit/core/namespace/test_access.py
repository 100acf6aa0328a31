"""Goal: permission is granted exactly as Linux grants it. Method: every mode class against every
kind of caller, and tables of the set-id and sticky rules.
"""

from __future__ import annotations

import errno
import itertools
import stat

import pytest
from msgspec.structs import replace

from dfs.core.namespace import access
from dfs.errors import FsError
from dfs.limits import NAME_BYTES_MAX
from dfs.types import Credentials
from tests.unit.core.namespace.test_records import DIRECTORY, FILE
from tests.unit.core.namespace.volume import ROOT_USER

OWNER = Credentials(1000, 5)
GROUP = Credentials(7, 1001)
EXTRA_GROUP = Credentials(7, 5, (9, 1001))
OTHER = Credentials(7, 5, (9,))
ALL_MASKS = range(1, 8)
FILE_OF = replace(FILE, uid=1000, gid=1001)
DIRECTORY_OF = replace(DIRECTORY, uid=1000, gid=1001)


@pytest.mark.parametrize(
    ("who", "shift"), [(OWNER, 6), (GROUP, 3), (EXTRA_GROUP, 3), (OTHER, 0)], ids=str
)
def test_one_class_decides(who: Credentials, shift: int) -> None:
    """The owner's bits bind the owner even where the group's or others' would grant more."""
    for bits, mask in itertools.product(range(8), ALL_MASKS):
        # All other classes say the opposite.
        mode = (0o777 & ~(7 << shift)) | (bits << shift)
        for inode in (FILE_OF, DIRECTORY_OF):
            inode = replace(inode, mode=stat.S_IFMT(inode.mode) | mode)
            assert access.is_allowed(inode, who, mask) == (bits & mask == mask)


def test_root_may_do_all_but_execute_what_nobody_may() -> None:
    for mask in ALL_MASKS:
        directory = replace(DIRECTORY_OF, mode=stat.S_IFDIR)
        assert access.is_allowed(directory, ROOT_USER, mask)
        plain = replace(FILE_OF, mode=stat.S_IFREG | 0o666)
        assert access.is_allowed(plain, ROOT_USER, mask) == (not mask & access.EXECUTE)
        program = replace(FILE_OF, mode=stat.S_IFREG | 0o010)
        assert access.is_allowed(program, ROOT_USER, mask)


def test_what_is_not_granted_is_eacces() -> None:
    access.require(FILE_OF, OWNER, access.WRITE)
    with pytest.raises(FsError) as caught:
        access.require(FILE_OF, OTHER, access.WRITE)
    assert caught.value.errno == errno.EACCES


@pytest.mark.parametrize(
    ("who", "is_sticky"),
    [(OWNER, False), (Credentials(55, 0), False), (ROOT_USER, False), (GROUP, True), (OTHER, True)],
)
def test_sticky_directories_let_owners_and_root_remove(who: Credentials, is_sticky: bool) -> None:
    directory = replace(DIRECTORY_OF, uid=55, mode=stat.S_IFDIR | 0o1777)
    assert access.is_sticky_against(directory, FILE_OF, who) == is_sticky
    plain = replace(directory, mode=stat.S_IFDIR | 0o777)
    assert not access.is_sticky_against(plain, FILE_OF, who)


def _errno_of_delete(mode: int, victim_mode: int, who: Credentials, *, is_directory: bool) -> int:
    directory = replace(DIRECTORY_OF, uid=55, mode=stat.S_IFDIR | mode)
    victim = replace(FILE_OF if stat.S_ISREG(victim_mode) else DIRECTORY_OF, mode=victim_mode)
    try:
        access.require_delete(directory, victim, who, is_directory=is_directory)
    except FsError as error:
        return error.errno
    return 0


@pytest.mark.parametrize(
    ("mode", "victim", "who", "is_directory", "expected"),
    [
        # Permission comes before sticky, sticky before the type.
        (0o1755, stat.S_IFREG, OTHER, True, errno.EACCES),
        (0o1775, stat.S_IFREG, OTHER, True, errno.EACCES),
        (0o1776, stat.S_IFREG, OTHER, True, errno.EACCES),
        (0o1777, stat.S_IFREG, OTHER, True, errno.EPERM),
        (0o1777, stat.S_IFDIR, OTHER, False, errno.EPERM),
        (0o0777, stat.S_IFREG, OTHER, True, errno.ENOTDIR),
        (0o0777, stat.S_IFDIR, OTHER, False, errno.EISDIR),
        (0o1777, stat.S_IFREG, OWNER, True, errno.ENOTDIR),
        (0o0777, stat.S_IFREG, OTHER, False, 0),
        (0o0777, stat.S_IFDIR, OTHER, True, 0),
        (0o0000, stat.S_IFREG, ROOT_USER, False, 0),
    ],
)
def test_deletion_is_checked_in_the_order_of_may_delete(
    mode: int, victim: int, who: Credentials, is_directory: bool, expected: int
) -> None:
    assert _errno_of_delete(mode, victim | 0o644, who, is_directory=is_directory) == expected


def test_creation_in_a_removed_directory_is_enoent_even_without_permission() -> None:
    gone = replace(DIRECTORY_OF, nlink=0, mode=stat.S_IFDIR)
    with pytest.raises(FsError) as caught:
        access.require_create(gone, OTHER)
    assert caught.value.errno == errno.ENOENT
    for mode in (0o5, 0o6, 0o2):
        with pytest.raises(FsError) as caught:
            access.require_create(replace(DIRECTORY_OF, mode=stat.S_IFDIR | mode), OTHER)
        assert caught.value.errno == errno.EACCES
    access.require_create(replace(DIRECTORY_OF, mode=stat.S_IFDIR | 0o3), OTHER)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"", errno.ENOENT),
        (b"n" * (NAME_BYTES_MAX + 1), errno.ENAMETOOLONG),
        (b"a/b", errno.EINVAL),
        (b"a\0b", errno.EINVAL),
    ],
)
def test_names_that_cannot_be_entries(name: bytes, expected: int) -> None:
    with pytest.raises(FsError) as caught:
        access.check_name(name)
    assert caught.value.errno == expected


@pytest.mark.parametrize("name", [b"n" * NAME_BYTES_MAX, b"\xff\n\x01", b"...", b" "])
def test_any_other_bytes_are_a_name(name: bytes) -> None:
    access.check_name(name)


SETGID_DIRECTORY = replace(DIRECTORY_OF, mode=stat.S_IFDIR | 0o2777)


@pytest.mark.parametrize(
    ("directory", "who", "mode", "expected"),
    [
        (DIRECTORY_OF, OTHER, stat.S_IFREG | 0o2755, (stat.S_IFREG | 0o2755, 5)),
        (SETGID_DIRECTORY, OTHER, stat.S_IFREG | 0o644, (stat.S_IFREG | 0o644, 1001)),
        (SETGID_DIRECTORY, OTHER, stat.S_IFDIR | 0o755, (stat.S_IFDIR | 0o2755, 1001)),
        # A setgid program of a group that its maker is not in would be an escalation.
        (SETGID_DIRECTORY, OTHER, stat.S_IFREG | 0o2755, (stat.S_IFREG | 0o755, 1001)),
        (SETGID_DIRECTORY, OTHER, stat.S_IFREG | 0o2744, (stat.S_IFREG | 0o2744, 1001)),
        (SETGID_DIRECTORY, EXTRA_GROUP, stat.S_IFREG | 0o2755, (stat.S_IFREG | 0o2755, 1001)),
        (SETGID_DIRECTORY, ROOT_USER, stat.S_IFREG | 0o2755, (stat.S_IFREG | 0o2755, 1001)),
    ],
)
def test_setgid_directories_pass_on_their_group(
    directory: object, who: Credentials, mode: int, expected: tuple[int, int]
) -> None:
    assert access.new_inode_ids(directory, who, mode) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mode", "who", "after_chown", "after_write"),
    [
        (0o755, OTHER, 0o755, 0o755),
        (0o4755, OTHER, 0o755, 0o755),
        (0o4755, ROOT_USER, 0o755, 0o4755),
        (0o2755, OTHER, 0o755, 0o755),
        (0o2755, ROOT_USER, 0o755, 0o2755),
        (0o2755, GROUP, 0o755, 0o755),
        # Setgid without group execute once meant mandatory locking: members keep it.
        (0o2745, GROUP, 0o2745, 0o2745),
        (0o2745, OTHER, 0o745, 0o745),
        (0o2745, ROOT_USER, 0o2745, 0o2745),
        (0o6777, OWNER, 0o777, 0o777),
        (0o1644, OTHER, 0o1644, 0o1644),
    ],
)
def test_set_id_bits_go_with_a_change(
    mode: int, who: Credentials, after_chown: int, after_write: int
) -> None:
    inode = replace(FILE_OF, mode=stat.S_IFREG | mode)
    assert access.mode_after_chown(inode, who) == stat.S_IFREG | after_chown
    assert access.mode_after_write(inode, who) == stat.S_IFREG | after_write


def test_owner_and_group_are_told_apart() -> None:
    told = [access.is_owner_or_privileged(FILE_OF, w) for w in (OWNER, GROUP, ROOT_USER)]
    assert told == [True, False, True]
    groups = [access.is_in_group_or_privileged(1001, w) for w in (OWNER, GROUP, EXTRA_GROUP)]
    assert groups == [False, True, True]
    assert access.is_in_group_or_privileged(1001, ROOT_USER)
