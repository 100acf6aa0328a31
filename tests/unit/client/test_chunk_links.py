"""Goal: whom to ask is decided by what is known to be wrong, and for some seconds only."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from dfs.client.chunk_links import AVOID_S, ChunkLinks
from dfs.core.messages import GetChunkStatus
from dfs.environment import Environment
from dfs.errors import Disconnected
from dfs.rpc.transport import SystemNetwork
from dfs.types import ChunkServer, ServerId, ServerState

if TYPE_CHECKING:
    from pathlib import Path


def server(number: int, state: ServerState = ServerState.UP) -> ChunkServer:
    return ChunkServer(ServerId(f"{number}"), f"host:{number}", f"zone{number}", 1.0, state)


def make_links() -> ChunkLinks:
    return ChunkLinks(
        Environment(SystemNetwork(), trio.to_thread.run_sync, random=random.Random(1))
    )


async def test_an_avoided_server_is_asked_last_for_some_seconds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    links, servers = make_links(), [server(0), server(1), server(2)]
    links.avoid(servers[0])
    assert links.for_reading(servers, 2, turn=0) == [servers[1], servers[2], servers[0]]
    assert links.for_writing(servers, 2) == [servers[1], servers[2]]
    await trio.sleep(AVOID_S)
    assert links.for_writing(servers, 2) == servers


async def test_writers_count_on_doubtful_servers_only_if_they_must(
    autojump_clock: trio.testing.MockClock,
) -> None:
    links, servers = make_links(), [server(0), server(1), server(2, ServerState.DOWN)]
    links.avoid(servers[1])
    assert links.for_writing(servers, 1) == [servers[0]]
    assert links.for_writing(servers, 2) == servers


async def test_a_slow_server_is_asked_last_but_counted_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    links, servers = make_links(), [server(0), server(1), server(2)]
    links.note_slow(servers[0])
    assert links.for_writing(servers, 1) == [servers[1], servers[2], servers[0]]
    links.avoid(servers[0])
    assert links.for_writing(servers, 1) == [servers[1], servers[2]]


async def test_doubt_grows_while_a_server_keeps_failing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    links, one = make_links(), server(0)
    for length_s in (AVOID_S, 2 * AVOID_S, 4 * AVOID_S):
        links.avoid(one)
        await trio.sleep(length_s - 0.1)
        assert not links.is_trusted(one)
        await trio.sleep(0.1)
        assert links.is_trusted(one)


async def test_reads_take_turns_among_the_owners(autojump_clock: trio.testing.MockClock) -> None:
    links, servers = make_links(), [server(n) for n in range(4)]
    first = {links.for_reading(servers, 2, turn)[0] for turn in range(4)}
    assert first == {servers[0], servers[1]}
    for turn in range(4):
        assert sorted(s.server_id for s in links.for_reading(servers, 2, turn)) == list("0123")


async def test_a_server_that_is_not_there_is_avoided_and_named(tmp_path: Path) -> None:
    links = make_links()
    gone = ChunkServer(ServerId("9"), f"unix:{tmp_path}/none", "z", 1.0)
    async with trio.open_nursery() as nursery:
        await nursery.start(links.run)
        with pytest.raises(Disconnected, match=str(tmp_path)):
            await links.call(gone, GetChunkStatus())
        assert not links.is_trusted(gone)
        nursery.cancel_scope.cancel()
