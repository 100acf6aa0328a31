"""Goal: the old name of a directory is dropped when it is found elsewhere, and only then.

Method: a kernel that only notes what it is told to drop, and one that makes that wait.
"""

from __future__ import annotations

import contextlib
import errno
import threading
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from dfs.mount.moved_directories import DROP_PATIENCE_S, MovedDirectories

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dfs.mount.moved_directories import Place

NODE, OTHER = 7, 8
HERE, THERE, ELSEWHERE = (2, b"here"), (3, b"there"), (3, b"elsewhere")


class Kernel:
    """Notes what it is told to drop, when the gate is open."""

    def __init__(self) -> None:
        self.dropped: list[Place] = []
        self.gate = threading.Event()
        self.gate.set()
        self.has_dropped = threading.Event()

    def drop(self, parent: int, name: bytes) -> None:
        self.gate.wait()
        self.dropped.append((parent, name))
        self.has_dropped.set()
        if name == b"here":
            raise OSError(errno.ENOENT, "not cached")


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


@contextlib.asynccontextmanager
async def running(kernel: Kernel) -> AsyncIterator[MovedDirectories]:
    moved = MovedDirectories(kernel.drop)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(moved.run)
        await trio.testing.wait_all_tasks_blocked()
        yield moved
        nursery.cancel_scope.cancel()


async def test_an_old_name_is_dropped_before_the_new_place_is_told(kernel: Kernel) -> None:
    async with running(kernel) as moved:
        await moved.found(NODE, HERE)
        await moved.found(NODE, HERE)
        await moved.found(OTHER, ELSEWHERE)
        assert kernel.dropped == []
        await moved.found(NODE, THERE)
        assert kernel.dropped == [HERE]
        await moved.found(NODE, THERE)
        assert kernel.dropped == [HERE]


async def test_who_finds_it_waits_only_a_moment_for_a_busy_kernel(kernel: Kernel) -> None:
    async with running(kernel) as moved:
        moved.told(NODE, HERE)
        kernel.gate.clear()
        began = trio.current_time()
        await moved.found(NODE, THERE)
        assert DROP_PATIENCE_S <= trio.current_time() - began < 1
        assert kernel.dropped == []
        kernel.gate.set()
        assert await trio.to_thread.run_sync(kernel.has_dropped.wait, 5)
        assert kernel.dropped == [HERE]


async def test_what_the_kernel_renamed_itself_has_not_moved_away(kernel: Kernel) -> None:
    async with running(kernel) as moved:
        moved.told(NODE, HERE)
        moved.renamed(HERE, THERE)
        await moved.found(NODE, THERE)
        moved.told(OTHER, ELSEWHERE)
        moved.renamed(ELSEWHERE, THERE)
        await moved.found(OTHER, THERE)
        await moved.found(NODE, ELSEWHERE)
        assert kernel.dropped == []


async def test_it_is_known_until_all_answers_are_taken_back(kernel: Kernel) -> None:
    async with running(kernel) as moved:
        moved.told(NODE, HERE)
        await moved.found(NODE, THERE)
        moved.forget(NODE, 1)
        await moved.found(NODE, ELSEWHERE)
        assert kernel.dropped == [HERE, THERE]
        moved.forget(NODE, 2)
        moved.forget(OTHER, 1)
        await moved.found(NODE, HERE)
        assert kernel.dropped == [HERE, THERE]
