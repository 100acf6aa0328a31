"""What a client makes of links that break, talk nonsense or say nothing, and of calls given up."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from dfs.core.calls import PATIENCE_FACTOR, failure_of
from dfs.core.messages import (
    ChunkReply,
    ChunkRequest,
    DeleteBlocks,
    Done,
    GetBlock,
    GetChunkStatus,
)
from dfs.core.packets import MAGIC, PREFIX
from dfs.errors import (
    DfsError,
    Disconnected,
    RemoteProtocolError,
)
from dfs.limits import (
    CALL_TIMEOUT_S,
    MIB,
)
from dfs.rpc.client import RpcClient
from dfs.rpc.transport import system_environment
from dfs.types import BlockId
from tests.unit.rpc.client_scene import ADDRESS, scene
from tests.unit.rpc.memory_network import Peer, memory_environment, packet_bytes

if TYPE_CHECKING:
    from pathlib import Path


BLOCK = BlockId(bytes(32))


# ------------------------------------------------------------------------------ broken links


@pytest.mark.parametrize(
    ("last_bytes", "reason"),
    [
        (b"", "was closed by the other side"),
        (packet_bytes(1, Done(), b"x" * 100)[:-1], "was closed in the middle of a packet"),
        (packet_bytes(1, Done(), bytes(MIB))[:-1], "was closed in the middle of a packet"),
        (b"df", "was closed in the middle of a packet"),
    ],
)
async def test_a_link_that_ends_fails_who_waits_and_is_made_again(
    last_bytes: bytes, reason: str
) -> None:
    async with scene() as (on, nursery):
        for name in "ab":
            nursery.start_soon(on.call, name, GetChunkStatus())
        peer = await on.peer()
        await peer.receive_many(2)
        await peer.send_bytes(last_bytes)
        await peer.stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        for name in "ab":
            assert isinstance(on.outcomes[name], Disconnected)
            assert str(on.outcomes[name]) == f"the link to {ADDRESS} {reason}"
        nursery.start_soon(on.call, "again", GetChunkStatus())
        peer = await on.peer()
        request = await peer.receive()
        assert request is not None
        assert request.request_id == 1
        await peer.send(1, Done())
        await trio.testing.wait_all_tasks_blocked()
        assert on.outcomes["again"] == (Done(), b"")


async def test_an_idle_link_that_ended_is_not_used() -> None:
    """A server that restarted meanwhile costs no failed call."""
    async with scene() as (on, nursery):
        for name in ("before", "after"):
            nursery.start_soon(on.call, name, GetChunkStatus())
            peer = await on.peer()
            await peer.receive()
            await peer.send(1, Done())
            await trio.testing.wait_all_tasks_blocked()
            assert on.outcomes[name] == (Done(), b"")
            await peer.stream.aclose()
            await trio.testing.wait_all_tasks_blocked()
        assert on.network.connects == 2


async def test_a_link_that_breaks_while_sending() -> None:
    async with scene() as (on, nursery):
        nursery.start_soon(on.call, "a", GetChunkStatus())
        peer = await on.peer()
        await peer.receive()

        async def break_down() -> None:
            raise trio.BrokenResourceError("cable cut")

        on.network.client_ends[0].send_stream.send_all_hook = break_down
        nursery.start_soon(on.call, "b", GetChunkStatus())
        await trio.testing.wait_all_tasks_blocked()
        assert isinstance(on.outcomes["a"], Disconnected)
        assert isinstance(on.outcomes["b"], Disconnected)
        assert ADDRESS in str(on.outcomes["b"])


NONSENSE = [
    (b"SSH-2.0-OpenSSH\r\n", "not a dfs packet"),
    (PREFIX.pack(MAGIC, 9, 1, 0), "speaks protocol 9, this dfs speaks 1: upgrade this side"),
    (PREFIX.pack(MAGIC, 1, 1, (1 << 32) - 1), "packet too large"),
    (packet_bytes(1, GetChunkStatus()), "makes no sense"),
    (packet_bytes(77, Done()), "an answer to request 77, which was never sent"),
    (
        packet_bytes(0, failure_of(RemoteProtocolError("too odd"))),
        "it closes the link: too odd",
    ),
    (packet_bytes(0, Done()), "it closes the link: no reason"),
]


@pytest.mark.parametrize(("data", "reason"), NONSENSE)
async def test_nonsense_drops_the_link(data: bytes, reason: str) -> None:
    async with scene() as (on, nursery):
        nursery.start_soon(on.call, "a", GetChunkStatus())
        peer = await on.peer()
        await peer.receive()
        await peer.send_bytes(data)
        await trio.testing.wait_all_tasks_blocked()
        assert isinstance(on.outcomes["a"], RemoteProtocolError)
        assert str(on.outcomes["a"]).startswith(f"{ADDRESS}: ")
        assert reason in str(on.outcomes["a"])
        assert await peer.receive() is None
        nursery.start_soon(on.call, "b", GetChunkStatus())
        peer = await on.peer()
        await peer.receive()
        await peer.send(1, Done())
        await trio.testing.wait_all_tasks_blocked()
        assert on.outcomes["b"] == (Done(), b"")


# ------------------------------------------------------------------------------ silence


async def test_silence_fails_the_call_and_closes_the_link(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with scene() as (on, nursery):
        nursery.start_soon(on.call, "long", GetChunkStatus())
        nursery.start_soon(partial(on.call, "short", GetBlock(block_id=BLOCK), timeout_s=2.0))
        peer = await on.peer()
        await peer.receive_many(2)
        await trio.sleep(1.9)
        assert on.outcomes == {}
        await trio.sleep(0.2)
        assert str(on.outcomes["short"]) == f"{ADDRESS} did not answer GetBlock within 2.0 s"
        # Nothing at all came since the link was made: it is dead, and the other call knows it too.
        assert str(on.outcomes["long"]) == f"{ADDRESS} is silent: the link was closed"
        assert isinstance(on.outcomes["short"], Disconnected)
        assert isinstance(on.outcomes["long"], Disconnected)
        assert await peer.receive() is None


async def test_silence_fails_all_calls_that_began_together(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Their time ends at one moment, and closing the link must leave none behind (found by
    simulation)."""
    names = [f"call {number}" for number in range(4)]
    async with scene() as (on, nursery):
        for name in names:
            nursery.start_soon(on.call, name, GetChunkStatus())
        peer = await on.peer()
        await peer.receive_many(len(names))
        await trio.sleep(CALL_TIMEOUT_S + 0.1)
        assert sorted(on.outcomes) == names
        assert all(isinstance(outcome, Disconnected) for outcome in on.outcomes.values())


async def test_one_slow_call_on_a_living_link(autojump_clock: trio.testing.MockClock) -> None:
    """Other answers keep the link, not the call that gets none."""
    async with scene() as (on, nursery):
        start_s = trio.current_time()
        nursery.start_soon(on.call, "slow", GetBlock(block_id=BLOCK))
        peer = await on.peer()
        await peer.receive()
        while "slow" not in on.outcomes:
            nursery.start_soon(on.call, "other", GetChunkStatus())
            request = await peer.receive()
            assert request is not None
            await peer.send(request.request_id, Done())
            await trio.sleep(0.5)
        assert isinstance(on.outcomes["slow"], Disconnected)
        assert trio.current_time() - start_s == pytest.approx(CALL_TIMEOUT_S, abs=1)
        await peer.send(1, Done())  # too late: dropped
        nursery.start_soon(on.call, "last", GetChunkStatus())
        request = await peer.receive()
        assert request is not None
        await peer.send(request.request_id, Done())
        await trio.sleep(0.1)
        assert on.outcomes["last"] == (Done(), b"")
        assert on.network.connects == 1


async def test_later_calls_have_their_own_time(autojump_clock: trio.testing.MockClock) -> None:
    """Calls at intervals, some answered: each that is not fails at its own end."""
    async with scene() as (on, nursery):
        nursery.start_soon(on.call, "first", GetChunkStatus())
        peer = await on.peer()
        await peer.receive()
        await peer.send(1, Done())
        await trio.sleep(CALL_TIMEOUT_S - 1)
        start_s = trio.current_time()
        await on.call("second", GetChunkStatus())
        assert isinstance(on.outcomes["second"], Disconnected)
        assert trio.current_time() - start_s == pytest.approx(CALL_TIMEOUT_S)


async def test_a_slow_download_is_no_silence(autojump_clock: trio.testing.MockClock) -> None:
    """A large reply that keeps moving may take longer than the time-out."""
    reply = packet_bytes(1, Done(), bytes(MIB))
    async with scene() as (on, nursery):
        nursery.start_soon(on.call, "a", GetBlock(block_id=BLOCK))
        peer = await on.peer()
        await peer.receive()
        step = len(reply) // 4
        for start in range(0, len(reply), step):
            assert on.outcomes == {}
            await trio.sleep(CALL_TIMEOUT_S * 0.8)
            await peer.send_bytes(reply[start : start + step])
        await trio.sleep(0.1)
        assert on.outcomes["a"] == (Done(), bytes(MIB))


async def test_a_trickle_does_not_hold_a_call_for_ever(
    autojump_clock: trio.testing.MockClock,
) -> None:
    reply = packet_bytes(1, Done(), bytes(MIB))
    async with scene() as (on, nursery):
        start_s = trio.current_time()
        nursery.start_soon(on.call, "a", GetBlock(block_id=BLOCK))
        peer = await on.peer()
        await peer.receive()
        await peer.send_bytes(reply[:100])
        for index in range(100, 200):
            await trio.sleep(CALL_TIMEOUT_S * 0.9)
            await peer.send_bytes(reply[index : index + 1])
            if "a" in on.outcomes:
                break
        assert isinstance(on.outcomes["a"], Disconnected)
        patience_s = PATIENCE_FACTOR * CALL_TIMEOUT_S
        assert trio.current_time() - start_s < patience_s + CALL_TIMEOUT_S


# ------------------------------------------------------------------------------ cancelled calls


async def test_the_answer_to_a_cancelled_call_is_dropped() -> None:
    async with scene() as (on, nursery):
        with trio.CancelScope() as scope:
            nursery.start_soon(on.call, "kept", GetChunkStatus(), b"kept")
            await trio.testing.wait_all_tasks_blocked()
            peer = await on.peer()
            async with trio.open_nursery() as inner:
                inner.start_soon(on.call, "cancelled", GetChunkStatus(), b"cancelled")
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        requests = await peer.receive_many(2)
        for request in requests:
            await peer.send(request.request_id, Done(), bytes(request.payload))
        await trio.testing.wait_all_tasks_blocked()
        assert on.outcomes == {"kept": (Done(), b"kept")}


async def test_a_call_cancelled_half_sent_does_not_cut_its_packet(tmp_path: Path) -> None:
    """Over a real socket whose other end does not read: the writer sends the rest later."""
    environment = system_environment()
    listener = await environment.network.listen(f"unix:{tmp_path}/s")
    big = bytes(range(256)) * 4 * 4096
    async with (
        RpcClient(environment, listener.address, ChunkReply) as client,
        trio.open_nursery() as nursery,
    ):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as inner:
                inner.start_soon(client.call, DeleteBlocks(block_ids=()), big)
                peer = Peer(await listener.accept(), ChunkRequest)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        nursery.start_soon(client.call, GetChunkStatus(), b"next")
        await trio.testing.wait_all_tasks_blocked()
        first, second = await peer.receive_many(2)
        assert first.payload == big
        assert second.payload == b"next"
        await peer.send(first.request_id, Done())
        await peer.send(second.request_id, Done())
    await peer.stream.aclose()
    await listener.aclose()


async def test_a_cancelled_caller_does_not_spoil_the_attempt_of_others() -> None:
    async with scene() as (on, nursery):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as inner:
                inner.start_soon(on.call, "cancelled", GetChunkStatus())
                nursery.start_soon(on.call, "kept", GetChunkStatus())
                scope.cancel()
        peer = await on.peer()
        request = await peer.receive()
        assert request is not None
        await peer.send(request.request_id, Done())
        await trio.testing.wait_all_tasks_blocked()
        assert on.outcomes == {"kept": (Done(), b"")}


@pytest.mark.parametrize("data", [b"", b"nonsense, and much of it"])
async def test_whoever_relies_on_a_link_hears_of_its_end_before_the_other_side(
    data: bytes,
) -> None:
    """Goal: what is remembered because of a link is forgotten when the server sees its end (I4).
    Method: the other side ends it or sends nonsense; what was told is looked at when the stream is
    closed."""
    environment = memory_environment()
    network: Any = environment.network
    listener = await network.listen(ADDRESS)
    told: list[str] = []
    at_the_end: list[list[str]] = []

    async def tell() -> None:
        await trio.lowlevel.checkpoint()
        told.append("")

    async def fail(client: RpcClient[Any]) -> None:
        with pytest.raises(DfsError):
            await client.call(GetChunkStatus())

    async with (
        RpcClient[Any](environment, ADDRESS, ChunkReply, before_close=tell) as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(fail, client)
        peer = Peer(await listener.accept(), ChunkRequest)
        await peer.receive()
        [client_end] = network.client_ends
        client_end.send_stream.close_hook = lambda: at_the_end.append(list(told))
        assert told == []
        if data:
            await peer.send_bytes(data)
        else:
            await peer.stream.aclose()
    assert told == [""]
    assert at_the_end[0] == [""]
