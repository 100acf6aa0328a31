"""Goal: a server can tell a client that has left, or died, from one whose link broke (I4).
Method: links that end in every way; what the network was told when they were closed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from dfs.core.messages import Done, GetChunkStatus
from dfs.limits import CALL_TIMEOUT_S
from tests.unit.rpc.client_scene import scene

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.unit.rpc.client_scene import Scene
    from tests.unit.rpc.memory_network import Peer

pytestmark = pytest.mark.usefixtures("autojump_clock")


async def closed_by_the_server(peer: Peer) -> None:
    await peer.stream.aclose()


async def nonsense(peer: Peer) -> None:
    await peer.send_bytes(b"nonsense, and much of it")


async def silence(_: Peer) -> None:
    await trio.sleep(2 * CALL_TIMEOUT_S)


async def call_once(on: Scene, nursery: trio.Nursery) -> Peer:
    """A link that was used, and its server's end."""
    nursery.start_soon(on.call, "first", GetChunkStatus())
    peer = await on.peer()
    request = await peer.receive()
    assert request is not None
    await peer.send(request.request_id, Done())
    await trio.testing.wait_all_tasks_blocked()
    return peer


@pytest.mark.parametrize("end", [closed_by_the_server, nonsense, silence])
@pytest.mark.parametrize("is_leaving", [False, True])
async def test_a_link_that_broke_does_not_look_like_an_end(
    end: Callable[[Peer], Awaitable[None]], is_leaving: bool
) -> None:
    """Unless the client is about to leave anyway."""
    async with scene() as (on, nursery):
        peer = await call_once(on, nursery)
        on.client.is_leaving = is_leaving
        nursery.start_soon(on.call, "last", GetChunkStatus())
        await peer.receive()
        await end(peer)
        await trio.testing.wait_all_tasks_blocked()
        assert len(on.network.client_ends) == 1
        assert on.network.aborted == ([] if is_leaving else on.network.client_ends)


async def test_a_client_that_is_done_ends_its_link_in_order() -> None:
    async with scene() as (on, nursery):
        await call_once(on, nursery)
        network = on.network
    assert len(network.client_ends) == 1
    assert network.aborted == []
