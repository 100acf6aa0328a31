"""The environment: the real world fits its seams, and another one can take its place."""

from __future__ import annotations

import random
import threading
import time

import pytest
import trio

from dfs.environment import Environment
from dfs.rpc.transport import BLOCKING_THREADS_MAX, system_environment
from tests.unit.rpc.memory_network import MemoryNetwork


def test_the_real_clock_counts_nanoseconds_since_1970() -> None:
    before_ns = time.time_ns()
    now_ns = system_environment().now_ns()
    assert before_ns <= now_ns <= time.time_ns()


def test_real_randomness_is_the_systems() -> None:
    """Two processes must never draw the same ids."""
    assert isinstance(system_environment().random, random.SystemRandom)


def test_a_seeded_world() -> None:
    """Everything that a process knows of the world is what it was handed."""
    environment = Environment(
        network=MemoryNetwork(),
        run_blocking=trio.to_thread.run_sync,
        now_ns=lambda: 42,
        random=random.Random(7),
    )
    assert environment.now_ns() == 42
    assert environment.random.random() == random.Random(7).random()


def test_an_environment_does_not_change() -> None:
    environment = system_environment()
    with pytest.raises(AttributeError):
        environment.now_ns = lambda: 0  # type: ignore[misc]


async def test_two_environments_do_not_share_threads() -> None:
    """Parts in one process, all of whose threads are busy, do not hold up the others."""
    first, second = system_environment(), system_environment()
    may_end = threading.Event()
    async with trio.open_nursery() as nursery:
        for _ in range(2 * BLOCKING_THREADS_MAX):
            nursery.start_soon(first.run_blocking, may_end.wait, 30)
        assert await second.run_blocking(sum, [1, 2]) == 3
        may_end.set()
