"""Goal: whatever a handler raises, the kernel gets an errno, and only our own bugs stop the
process.
"""

from __future__ import annotations

import errno

import pytest
from pyfuse3 import FUSEError

from dfs.errors import CorruptBlock, Disconnected, FsError, NoSpace
from dfs.mount import answers
from dfs.mount.answers import answered, errno_of
from dfs.mount.statistics import REQUESTS


@pytest.fixture(autouse=True)
def _nothing_logged_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "_logged_at", {})


def test_the_errno_of_every_kind(caplog: pytest.LogCaptureFixture) -> None:
    assert errno_of(FsError(errno.ENOTEMPTY), "rmdir") == errno.ENOTEMPTY
    assert not caplog.records
    assert errno_of(NoSpace("full"), "write") == errno.ENOSPC
    assert errno_of(CorruptBlock("bad"), "read") == errno.EIO
    assert errno_of(KeyError("surprise"), "read") == errno.EIO
    assert ["full" in record.message for record in caplog.records] == [True, False, False]


def test_a_bug_of_ours_goes_through_even_from_a_group() -> None:
    with pytest.raises(AssertionError):
        errno_of(AssertionError(), "read")
    with pytest.raises(ExceptionGroup):
        errno_of(ExceptionGroup("tasks", [ValueError(), AssertionError()]), "read")


def test_the_same_complaint_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(100):
        errno_of(Disconnected("cannot reach meta1:7400"), "getattr")
    assert len(caplog.records) == 1
    for number in range(2 * answers.COMPLAINTS_MAX):
        errno_of(Disconnected(f"cannot reach {number}"), "getattr")
    assert len(answers._logged_at) <= answers.COMPLAINTS_MAX


async def test_a_wrapped_handler_raises_fuse_errors_only() -> None:
    @answered
    async def handler(error: Exception) -> None:
        raise error

    for error, number in [
        (FsError(errno.EPERM), errno.EPERM),
        (FUSEError(errno.EXDEV), errno.EXDEV),
    ]:
        with pytest.raises(FUSEError) as caught:
            await handler(error)
        assert caught.value.errno == number


async def test_every_request_is_counted_however_it_ends() -> None:
    @answered
    async def counted_handler(error: Exception | None) -> int:
        assert REQUESTS.figures()["counted_handler"].in_work_count == 1
        if error is not None:
            raise error
        return 5

    assert await counted_handler(None) == 5
    for error in (FsError(errno.EPERM), FUSEError(errno.EXDEV)):
        with pytest.raises(FUSEError):
            await counted_handler(error)
    with pytest.raises(AssertionError, match="a bug"):
        await counted_handler(AssertionError("a bug"))
    figures = REQUESTS.figures()["counted_handler"]
    assert (figures.count, figures.in_work_count) == (4, 0)
    assert 0 < figures.max_s <= figures.total_s
