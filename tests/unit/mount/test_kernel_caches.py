"""Goal: the kernel is told to remember no longer than a lease lasts, and forgets when it is told.

Method: a kernel that only notes what it is told, on a mock clock; one that makes that wait.
"""

from __future__ import annotations

import errno
import threading
from typing import TYPE_CHECKING

import trio
import trio.testing

from dfs.limits import KERNEL_MEMORY_S
from dfs.mount import kernel_caches
from dfs.mount.kernel_caches import FORGET_PATIENCE_S, KernelCaches
from dfs.types import InodeId

if TYPE_CHECKING:
    import pytest

ONE, TWO = InodeId(1), InodeId(2)


class Kernel:
    """Notes what it is told to forget, when the gate is open."""

    def __init__(self, *, has_epochs: bool = True) -> None:
        self.has_epochs = has_epochs
        self.told: list[int | str] = []
        self.gate = threading.Event()
        self.gate.set()

    def advance_epoch(self) -> bool:
        self.gate.wait()
        self.told.append("names")
        return self.has_epochs

    def mark(self, node_id: int) -> None:
        self.told.append(node_id)
        if node_id == TWO + 100:
            raise OSError(errno.ENOENT, "not cached")


async def made(kernel: Kernel) -> KernelCaches:
    caches = KernelCaches(kernel.advance_epoch, kernel.mark, lambda ino: ino + 100)
    await caches.start()
    kernel.told.clear()
    return caches


async def test_what_was_told_is_forgotten_once() -> None:
    kernel = Kernel()
    caches = await made(kernel)
    assert caches.attributes_s(ONE, 0.5) == 0.5
    assert caches.attributes_s(TWO, 0.5) == 0.5
    assert caches.name_s(TWO, 0.5) == 0.5
    await caches.forget([TWO, InodeId(3)])
    assert kernel.told == ["names", 102]
    await caches.forget([TWO])
    assert kernel.told == ["names", 102]
    await caches.forget(None)
    assert kernel.told == ["names", 102, 101]


async def test_names_in_other_directories_are_left_alone() -> None:
    kernel = Kernel()
    caches = await made(kernel)
    caches.name_s(ONE, 0.5)
    await caches.forget([TWO])
    assert kernel.told == []
    await caches.forget([ONE])
    assert kernel.told == ["names"]


async def test_a_name_is_forgotten_where_the_kernel_has_moved_it() -> None:
    """Method: names in ONE were told; one of them moves to TWO, of which nothing was told."""
    for forgotten in (ONE, TWO):
        for source, target in ((ONE, TWO), (TWO, ONE)):
            kernel = Kernel()
            caches = await made(kernel)
            caches.name_s(ONE, 0.5)
            caches.note_rename(source, target)
            await caches.forget([forgotten])
            assert kernel.told == ["names"]


async def test_a_rename_among_names_that_were_not_told_needs_no_epoch() -> None:
    kernel = Kernel()
    caches = await made(kernel)
    caches.note_rename(ONE, TWO)
    await caches.forget([ONE, TWO])
    assert kernel.told == []


async def test_what_is_not_leased_is_not_told(autojump_clock: trio.testing.MockClock) -> None:
    kernel = Kernel()
    caches = await made(kernel)
    assert caches.attributes_s(ONE, 0) == caches.name_s(ONE, 0) == 0
    await caches.forget(None)
    assert caches.attributes_s(ONE, 0.3) == caches.name_s(ONE, 0.3) == 0.3
    await trio.sleep(4)
    await caches.forget(None)
    assert kernel.told == [], "what the kernel has forgotten in time need not be told"


async def test_nothing_is_remembered_for_long() -> None:
    caches = await made(Kernel())
    assert caches.attributes_s(ONE, 99) == caches.name_s(ONE, 99) == KERNEL_MEMORY_S


async def test_without_epochs_no_name_is_remembered() -> None:
    kernel = Kernel(has_epochs=False)
    caches = await made(kernel)
    assert caches.name_s(ONE, 0.5) == 0.0
    assert caches.attributes_s(ONE, 0.5) == 0.5
    await caches.forget([ONE])
    assert kernel.told == [101]


async def test_who_comes_second_waits_for_the_epoch_that_is_under_way() -> None:
    kernel = Kernel()
    caches = await made(kernel)
    caches.name_s(ONE, 50)
    kernel.gate.clear()
    order: list[str] = []

    async def forget() -> None:
        await caches.forget([ONE])
        order.append("forgotten")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(forget)
        nursery.start_soon(forget)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert order == []
        kernel.gate.set()
    assert kernel.told == ["names"]


async def test_a_kernel_that_does_not_answer_is_not_waited_for_for_ever() -> None:
    kernel = Kernel()
    caches = await made(kernel)
    caches.name_s(ONE, 50)
    kernel.gate.clear()
    began_s = trio.current_time()
    await caches.forget(None)
    assert FORGET_PATIENCE_S <= trio.current_time() - began_s < FORGET_PATIENCE_S + 5
    kernel.gate.set()


async def test_a_mount_that_is_off_is_told_nothing() -> None:
    kernel = Kernel()
    caches = await made(kernel)
    caches.name_s(ONE, 50)
    await caches.stop()
    await caches.forget(None)
    assert kernel.told == []


async def test_no_more_is_told_than_can_be_noted(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(kernel_caches, "TOLD_MAX", 1)
    caches = await made(Kernel())
    assert caches.attributes_s(ONE, 0.3) == 0.3
    assert caches.attributes_s(TWO, 0.3) == 0.0
    assert caches.attributes_s(ONE, 0.3) == 0.3
    await trio.sleep(4)
    assert caches.attributes_s(TWO, 0.3) == 0.3
