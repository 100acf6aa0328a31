"""Exact replay needs two private names of trio; the pinned version must still have them."""

from __future__ import annotations

import random

import trio
import trio.testing
from trio._core import _run as trio_run

from tests.simulation.scheduler import seeded_scheduler


def test_the_private_names_exist() -> None:
    assert trio.__version__.startswith("0.35.")
    assert isinstance(trio_run._ALLOW_DETERMINISTIC_SCHEDULING, bool)
    assert isinstance(trio_run._r, random.Random)


def _order_of_tasks(seed: int) -> list[int]:
    order: list[int] = []

    async def work(number: int) -> None:
        for _ in range(5):
            await trio.lowlevel.checkpoint()
            order.append(number)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(work, number)

    with seeded_scheduler(str(seed)):
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return order


def test_the_seed_decides_which_task_runs_first() -> None:
    assert _order_of_tasks(1) == _order_of_tasks(1)
    assert _order_of_tasks(1) != _order_of_tasks(2)
