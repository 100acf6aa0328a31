"""Goal: a notification says whether the kernel knows it, and never comes from the event loop."""

from __future__ import annotations

import errno

import pytest
import trio

from dfs.mount.fusetap.notify import advance_dentry_epoch
from tests.unit.mount.fusetap.fake_tap import FakeTap


def test_a_kernel_that_knows_it_and_one_that_does_not() -> None:
    tap = FakeTap()
    assert advance_dentry_epoch(tap)
    assert tap.notified == [(8, b"")]
    tap.failure = OSError(errno.EINVAL, "")
    assert not advance_dentry_epoch(tap)


def test_an_unmounted_kernel_is_an_error() -> None:
    tap = FakeTap()
    tap.failure = OSError(errno.ENODEV, "")
    with pytest.raises(OSError) as caught:
        advance_dentry_epoch(tap)
    assert caught.value.errno == errno.ENODEV


async def test_not_from_the_event_loop_but_from_its_threads() -> None:
    tap = FakeTap()
    with pytest.raises(AssertionError):
        advance_dentry_epoch(tap)
    assert await trio.to_thread.run_sync(advance_dentry_epoch, tap)
