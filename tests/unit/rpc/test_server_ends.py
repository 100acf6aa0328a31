"""Goal: a server tells of every link's end, and whether that was the other side's will.
Method: links in memory that end in every way."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from dfs.core.messages import ChunkReply, ChunkRequest, Done, GetChunkStatus
from dfs.rpc.server import serve
from tests.unit.rpc.memory_network import Peer, memory_environment, packet_bytes

if TYPE_CHECKING:
    from dfs.rpc.server import Connection

ADDRESS = "chunk-1:7001"


@pytest.mark.expects_warnings
@pytest.mark.parametrize("how", ["in order", "inside a packet", "nonsense", "broken", "cancelled"])
async def test_an_end_is_told_and_whether_it_was_in_order(how: str) -> None:
    """Goal: only who closed a link in order has let go of what it was told there (I4)."""
    environment = memory_environment()
    network: Any = environment.network
    listener = await network.listen(ADDRESS)
    ended: list[tuple[int, bool]] = []

    async def handle(request: Any, payload: Any, connection: Connection) -> Done:
        return Done()

    def note(connection: Connection, is_orderly: bool) -> None:
        ended.append((connection.number, is_orderly))

    async def reset() -> None:
        raise trio.BrokenResourceError("reset by peer")

    server_ends: list[Any] = []
    accept = listener.accept

    async def accept_and_note() -> trio.abc.Stream:
        server_ends.append(await accept())
        return server_ends[-1]

    listener.accept = accept_and_note
    async with trio.open_nursery() as nursery:
        start = partial(serve, environment, listener, ChunkRequest, handle, on_end=note)
        await nursery.start(start)
        peer = Peer(await network.connect(ADDRESS), ChunkReply)
        await peer.send(1, GetChunkStatus())
        await peer.receive()
        assert ended == []
        packet = packet_bytes(2, GetChunkStatus())
        match how:
            case "in order":
                await peer.stream.aclose()
            case "inside a packet":
                await peer.send_bytes(packet[:-1])
                await peer.stream.aclose()
            case "nonsense":
                await peer.send_bytes(b"nonsense, and much of it")
                await peer.receive()
            case "broken":
                [server_end] = server_ends
                server_end.receive_stream.receive_some_hook = reset
                await peer.send_bytes(packet[:-1])
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert ended == [(1, how in ("in order", "inside a packet"))]
