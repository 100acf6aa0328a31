"""Goal: servers are asked in order, as many at once as wanted, the next when one fails or is slow.
Method: attempts of known length on the virtual clock."""

from __future__ import annotations

import trio
import trio.testing

from dfs.client.race import Race
from dfs.errors import BlockNotFound
from dfs.types import ChunkServer, ServerId

SERVERS = [ChunkServer(ServerId(f"{n}"), f"host:{n}", f"zone{n}", 1.0) for n in range(4)]


async def run(
    script: dict[int, tuple[float, bool]], *, wanted: int, servers: int = 4
) -> tuple[Race[int], list[tuple[int, float]], float]:
    """The race, who was asked when, and its end. `script`: server → (duration, is good)."""
    asked: list[tuple[int, float]] = []
    begin = trio.current_time()

    async def attempt(server: ChunkServer) -> int:
        number = SERVERS.index(server)
        asked.append((number, trio.current_time() - begin))
        duration, is_good = script[number]
        await trio.sleep(duration)
        if not is_good:
            raise BlockNotFound(f"not on {number}")
        return number

    race = Race(SERVERS[:servers], attempt, wanted=wanted, hedge_s=2.0)
    await race.run()
    return race, sorted(asked), trio.current_time() - begin


async def test_as_many_as_wanted_at_once(autojump_clock: trio.testing.MockClock) -> None:
    race, asked, end = await run({0: (1.0, True), 1: (1.5, True)}, wanted=2)
    assert asked == [(0, 0.0), (1, 0.0)]
    assert sorted(value for _, value in race.successes) == [0, 1]
    assert end == 1.5


async def test_a_failed_one_is_replaced_at_once(autojump_clock: trio.testing.MockClock) -> None:
    race, asked, end = await run({0: (0.5, False), 1: (1.0, True)}, wanted=1)
    assert asked == [(0, 0.0), (1, 0.5)]
    assert [server for server, _ in race.failures] == [SERVERS[0]]
    assert end == 1.5
    assert "host:0: BlockNotFound: not on 0" in race.causes()


async def test_a_slow_one_is_joined_not_given_up(autojump_clock: trio.testing.MockClock) -> None:
    race, asked, end = await run({0: (3.0, True), 1: (5.0, True)}, wanted=1)
    assert asked == [(0, 0.0), (1, 2.0)]
    assert [value for _, value in race.successes] == [0]
    assert end == 3.0
    assert race.slow == []


async def test_who_is_overtaken_is_slow(autojump_clock: trio.testing.MockClock) -> None:
    race, _, end = await run({0: (9.0, True), 1: (1.0, True)}, wanted=1)
    assert end == 3.0
    assert race.slow == [SERVERS[0]]


async def test_it_ends_when_nobody_is_left(autojump_clock: trio.testing.MockClock) -> None:
    script = {0: (0.1, True), 1: (0.1, False), 2: (9.0, False)}
    race, _, end = await run(script, wanted=2, servers=3)
    assert [value for _, value in race.successes] == [0]
    assert len(race.failures) == 2
    assert end == 9.1


async def test_no_servers_no_wait(autojump_clock: trio.testing.MockClock) -> None:
    race, asked, _ = await run({}, wanted=2, servers=0)
    assert race.successes == race.failures == asked == []
