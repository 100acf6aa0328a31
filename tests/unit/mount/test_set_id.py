"""Goal: where the kernel says whether set-id bits go, that decides; where it does not, the uid."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from dfs.mount.fusetap.wire import InitFlag
from dfs.mount.set_id import UNPRIVILEGED_UID, SetIdRule, by_head
from dfs.types import Credentials
from tests.unit.mount.fusetap.heads import write_head

if TYPE_CHECKING:
    from dfs.mount.fusetap.session import FuseSession

ROOT = Credentials(0, 0)
USER = Credentials(1000, 1000, (24,))
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
