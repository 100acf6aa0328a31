"""Goal: never more bytes than allowed, first come first served, nothing lost to cancellation."""

from __future__ import annotations

import trio
import trio.testing

from dfs.chunk.budget import ByteBudget


async def test_those_who_would_exceed_it_wait_in_order() -> None:
    budget = ByteBudget(100)
    order: list[int] = []
    leave = {number: trio.Event() for number in range(4)}

    async def use(number: int, size: int) -> None:
        async with budget.hold(size):
            order.append(number)
            assert budget.held_bytes <= 100
            await leave[number].wait()

    async with trio.open_nursery() as nursery:
        for number, size in enumerate((60, 50, 10, 40)):
            nursery.start_soon(use, number, size)
            await trio.testing.wait_all_tasks_blocked()
        assert order == [0]  # 10 bytes would fit, but 50 came first
        leave[0].set()
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(order) == [0, 1, 2, 3]  # all fit now; which runs first is the scheduler's
        for event in leave.values():
            event.set()
    assert budget.held_bytes == 0


async def test_a_piece_larger_than_all_goes_alone() -> None:
    budget = ByteBudget(100)
    async with budget.hold(500):
        with trio.move_on_after(0) as scope:
            async with budget.hold(1):
                raise AssertionError
        assert scope.cancelled_caught
    async with budget.hold(100), budget.hold(0):
        assert budget.held_bytes == 100


async def test_who_gives_up_takes_nothing_along() -> None:
    budget = ByteBudget(100)
    order: list[str] = []

    async def use(name: str, size: int) -> None:
        async with budget.hold(size):
            order.append(name)

    async with (
        trio.open_nursery() as nursery,
        budget.hold(100),
        trio.open_nursery() as impatient,
    ):
        impatient.start_soon(use, "impatient", 90)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(use, "patient", 90)
        await trio.testing.wait_all_tasks_blocked()
        impatient.cancel_scope.cancel()
    assert order == ["patient"]
    assert budget.held_bytes == 0


async def test_cancelled_just_after_being_let_in() -> None:
    budget = ByteBudget(100)

    async def use() -> None:
        async with budget.hold(90):
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        async with budget.hold(100):
            nursery.start_soon(use)
            await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()  # let in by the exit above, not yet run
    assert budget.held_bytes == 0
