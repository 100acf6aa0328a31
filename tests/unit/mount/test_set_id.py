"""Goal: where the kernel says whether set-id bits go, that decides; where it does not, the uid."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, cast

import msgspec
import pytest

from dfs.core.namespace.entries import root_records
from dfs.core.namespace.keys import inode_key
from dfs.core.namespace.records import Inode
from dfs.mount.attributes import AttributeChanges
from dfs.mount.fusetap.wire import InitFlag
from dfs.mount.set_id import UNPRIVILEGED_UID, SetIdRule, by_head
from dfs.types import ROOT as ROOT_INO
from dfs.types import Credentials, InodeId
from tests.unit.mount.fusetap.heads import write_head

if TYPE_CHECKING:
    from dfs.mount.fusetap.session import FuseSession

ROOT = Credentials(0, 0)
USER = Credentials(1000, 1000, (24,))
OTHER = Credentials(1001, 1000)
KILL, CACHE = 1 << 2, 1 << 0


@pytest.mark.parametrize("who", [ROOT, USER])
def test_mostly_the_uid_is_right(who: Credentials) -> None:
    flags = 0 if who.is_privileged else KILL
    assert by_head(write_head(flags, uid=who.uid), who) is who
    assert by_head(write_head(CACHE, uid=0), who) is who


def test_a_writer_with_the_capability_leaves_them_though_a_user_opened_the_file() -> None:
    assert by_head(write_head(0, uid=0), USER).is_privileged


def test_a_writer_without_the_capability_takes_them_though_root_opened_the_file() -> None:
    writer = by_head(write_head(KILL, uid=1000, gid=50), ROOT)
    assert (writer.uid, writer.gid) == (1000, 50)


def test_a_root_without_the_capability_takes_them() -> None:
    writer = by_head(write_head(KILL, uid=0, gid=7), ROOT)
    assert writer == Credentials(UNPRIVILEGED_UID, 7)


class Session:
    """As after INIT; `agreed` is asked once."""

    def __init__(self, agreed: InitFlag, head: bytes) -> None:
        self.agreed = agreed
        self.tap = self
        self._head = head

    def last_request(self) -> bytes:
        return self._head


@pytest.mark.parametrize("is_agreed", [True, False])
def test_a_kernel_that_did_not_agree_is_not_asked(*, is_agreed: bool) -> None:
    agreed = InitFlag.HANDLE_KILLPRIV_V2 if is_agreed else InitFlag.PARALLEL_DIROPS
    rule = SetIdRule(cast("FuseSession", Session(agreed, write_head(0, uid=0))))
    assert rule.changed_by(USER) == (Credentials(0, 1000) if is_agreed else USER)


def inode_of(mode: int) -> Inode:
    root = root_records(0)[inode_key(ROOT_INO)]
    assert isinstance(root, Inode)
    return msgspec.structs.replace(root, ino=InodeId(5), mode=mode, uid=1000, gid=1000)


def bare_change(mode: int, who: Credentials, *, taken_by: int = 0) -> int | None:
    rule = SetIdRule(cast("FuseSession", Session(InitFlag.HANDLE_KILLPRIV_V2, b"")))
    if taken_by:
        rule.capability_goes(InodeId(5), taken_by)
    changes = rule.bare_change(inode_of(mode), who, 77)
    assert changes == AttributeChanges(mode=changes.mode)
    return changes.mode


@pytest.mark.parametrize(
    ("mode", "who", "expected"),
    [
        (stat.S_IFREG | 0o6755, ROOT, 0o755),
        (stat.S_IFREG | 0o6755, USER, 0o755),
        (stat.S_IFREG | 0o6755, OTHER, None),
        (stat.S_IFREG | 0o2745, USER, None),  # a mark of mandatory locks, in the user's group
        (stat.S_IFREG | 0o644, ROOT, None),
        (stat.S_IFDIR | 0o6755, ROOT, None),
        (stat.S_IFLNK | 0o6777, ROOT, None),
    ],
)
def test_a_chown_of_nothing_takes_set_id_bits_from_files(
    mode: int, who: Credentials, expected: int | None
) -> None:
    assert bare_change(mode, who) == expected


def test_what_comes_before_a_write_of_root_takes_no_set_id_bits() -> None:
    assert bare_change(stat.S_IFREG | 0o6755, ROOT, taken_by=77) is None
    assert bare_change(stat.S_IFREG | 0o6755, ROOT, taken_by=78) == 0o755
    assert bare_change(stat.S_IFREG | 0o6755, USER, taken_by=77) == 0o755
