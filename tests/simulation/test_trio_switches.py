"""Exact replay needs two private names of trio; the pinned version must still have them."""

from __future__ import annotations

import random

import trio
from trio._core import _run as trio_run

from tests.simulation.freezing import freeze_tasks
from tests.simulation.scheduler import VirtualClock, seeded_scheduler


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
        trio.run(main, clock=VirtualClock())
    return order


def test_the_seed_decides_which_task_runs_first() -> None:
    assert _order_of_tasks(1) == _order_of_tasks(1)
    assert _order_of_tasks(1) != _order_of_tasks(2)


def test_time_jumps_to_the_next_deadline() -> None:
    """An hour takes no time, and deadlines come in their order."""
    times: list[float] = []

    async def sleep(seconds: float) -> None:
        await trio.sleep(seconds)
        times.append(trio.current_time())

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for seconds in (3600, 1, 60):
                nursery.start_soon(sleep, seconds)

    with seeded_scheduler("1"):
        trio.run(main, clock=VirtualClock())
    assert times == [1, 60, 3600]


def test_frozen_tasks_stand_still_until_they_thaw() -> None:
    """Timers of a frozen task pass, and take effect at once when it thaws; others go on."""
    seen: list[tuple[str, float]] = []

    async def tick(name: str) -> None:
        for _ in range(3):
            await trio.sleep(1)
            seen.append((name, trio.current_time()))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tick, "cold", name="cold")
            nursery.start_soon(tick, "warm")
            await trio.sleep(1.5)
            frozen = freeze_tasks(lambda task: task.name == "cold")
            await trio.sleep(8.5)
            frozen.thaw()

    with seeded_scheduler("1"):
        trio.run(main, clock=VirtualClock())
    assert [at for name, at in seen if name == "warm"] == [1, 2, 3]
    assert [at for name, at in seen if name == "cold"] == [1, 10, 11]


def test_a_frozen_task_can_be_cancelled_and_hears_of_it_when_it_thaws() -> None:
    async def main() -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever, name="cold")
                await trio.sleep(1)
                frozen = freeze_tasks(lambda task: task.name == "cold")
                nursery.cancel_scope.cancel()
                with trio.CancelScope(shield=True):
                    await trio.sleep(5)
                frozen.thaw()
        assert not scope.cancelled_caught
        assert trio.current_time() == 6

    with seeded_scheduler("1"):
        trio.run(main, clock=VirtualClock())
