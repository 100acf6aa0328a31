"""Calls: replies find their callers, broken and silent links are told, and links are made again."""

from __future__ import annotations

import errno
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from dfs.core.calls import PendingCalls
from dfs.core.messages import (
    ChunkReply,
    ChunkRequest,
    Done,
    GetBlock,
    GetChunkStatus,
    HasBlocks,
    HasBlocksReply,
    PutBlock,
)
from dfs.errors import (
    Disconnected,
    FsError,
    LocalProtocolError,
    NoSpace,
    UserError,
)
from dfs.limits import (
    BLOCK_BYTES_MAX,
    CONNECT_TIMEOUT_S,
    MIB,
    PACKET_PAYLOAD_BYTES_MAX,
)
from dfs.rpc.client import RpcClient
from dfs.rpc.server import Connection, serve
from dfs.rpc.transport import system_environment
from dfs.types import BlockId
from tests.unit.rpc.client_scene import ADDRESS, scene
from tests.unit.rpc.memory_network import Peer, memory_environment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from dfs.environment import Environment

BLOCK = BlockId(bytes(32))


async def answer(request: Any, payload: Any, connection: Connection) -> Any:
    """Echoes payloads, tells how many blocks were asked for, and fails on demand."""
    await trio.lowlevel.checkpoint()
    if isinstance(request, HasBlocks):
        return HasBlocksReply(has=(True,) * len(request.block_ids))
    if isinstance(request, GetBlock):
        raise FsError(errno.ENOTDIR, "not here")
    if isinstance(request, PutBlock):
        raise NoSpace("the disk is full")
    return Done(), payload


@asynccontextmanager
async def serving(
    environment: Environment, address: str, handler: Callable[..., Awaitable[Any]] = answer
) -> AsyncIterator[RpcClient[Any]]:
    """A server, and a client that calls it."""
    listener = await environment.network.listen(address)
    async with trio.open_nursery() as nursery:
        reached = await nursery.start(partial(serve, environment, listener, ChunkRequest, handler))
        async with RpcClient(environment, reached, ChunkReply) as client:
            yield client
        nursery.cancel_scope.cancel()


@pytest.fixture(params=["memory", "unix", "tcp"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Environment, str]:
    """An environment, and an address in it to listen on."""
    addresses = {"memory": ADDRESS, "unix": f"unix:{tmp_path}/s", "tcp": "127.0.0.1:0"}
    environment = memory_environment() if request.param == "memory" else system_environment()
    return environment, addresses[request.param]


# ------------------------------------------------------------------------------ answers


async def test_replies_and_payloads(world: tuple[Environment, str]) -> None:
    """Payloads of every size come back whole, one call after the other over one link."""
    async with serving(*world) as client:
        for size in (0, 1, 1000, 64 * 1024, 65 * 1024, MIB, BLOCK_BYTES_MAX):
            payload = bytes([size % 251]) * size
            reply, returned = await client.call(GetChunkStatus(), payload)
            assert reply == Done()
            assert returned == payload
        reply, returned = await client.call(GetChunkStatus(), [b"a", bytearray(b"b"), b""])
        assert returned == b"ab"
    assert client.calls_sent == client.call_counts.answered == {"GetChunkStatus": 8}
    assert client.call_counts.waited_ns["GetChunkStatus"] >= 0


async def test_many_calls_at_once(world: tuple[Environment, str]) -> None:
    """300 callers on one link, small and large mixed: each gets its own answer."""
    async with serving(*world) as client:

        async def caller(number: int) -> None:
            reply, _ = await client.call(HasBlocks(block_ids=(BLOCK,) * number))
            assert reply == HasBlocksReply(has=(True,) * number)
            payload = number.to_bytes(2, "big") * (50_000 if number % 10 == 0 else 5)
            _, returned = await client.call(GetChunkStatus(), payload)
            assert returned == payload

        async with trio.open_nursery() as nursery:
            for number in range(300):
                nursery.start_soon(caller, number)


async def test_failures_are_raised_as_what_they_are(world: tuple[Environment, str]) -> None:
    async with serving(*world) as client:
        with pytest.raises(FsError, match=r"^ENOTDIR: not here$") as raised:
            await client.call(GetBlock(block_id=BLOCK))
        assert raised.value.errno == errno.ENOTDIR
        reply, _ = await client.call(GetChunkStatus())
        assert reply == Done()


async def test_a_request_that_is_too_large_harms_nothing(world: tuple[Environment, str]) -> None:
    async with serving(*world) as client:
        with pytest.raises(LocalProtocolError, match="GetChunkStatus cannot be sent"):
            await client.call(GetChunkStatus(), bytes(PACKET_PAYLOAD_BYTES_MAX + 1))
        reply, _ = await client.call(GetChunkStatus(), b"x")
        assert reply == Done()


# ------------------------------------------------------------------------------ links


async def test_replies_may_come_in_any_order() -> None:
    async with scene() as (on, nursery):
        for name in "abc":
            nursery.start_soon(on.call, name, GetChunkStatus(), name.encode())
            await trio.testing.wait_all_tasks_blocked()
        peer = await on.peer()
        requests = await peer.receive_many(3)
        assert [request.request_id for request in requests] == [1, 2, 3]
        for request in reversed(requests):
            await peer.send(request.request_id, Done(), bytes(request.payload) * 2)
        await trio.testing.wait_all_tasks_blocked()
        assert on.outcomes == {name: (Done(), name.encode() * 2) for name in "abc"}


async def test_one_attempt_serves_all_who_wait() -> None:
    async with scene() as (on, nursery):
        for name in "abc":
            nursery.start_soon(on.call, name, GetChunkStatus())
        peer = await on.peer()
        for request in await peer.receive_many(3):
            await peer.send(request.request_id, Done())
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(on.outcomes) == ["a", "b", "c"]
        assert on.network.connects == 1


async def test_nobody_listens() -> None:
    """Every caller that waited for the one attempt is told, by an error of its own."""
    environment = memory_environment()
    network: Any = environment.network
    errors: list[Disconnected] = []
    async with RpcClient(environment, ADDRESS, ChunkReply) as client:

        async def caller() -> None:
            with pytest.raises(Disconnected) as raised:
                await client.call(GetChunkStatus())
            errors.append(raised.value)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(caller)
    assert [str(error) for error in errors] == [f"cannot reach {ADDRESS}: Connection refused"] * 3
    assert errors[0] is not errors[1]
    assert network.connects == 1
    assert client.calls_sent == {}


async def test_nobody_listens_on_the_real_network(tmp_path: Path) -> None:
    environment = system_environment()
    listener = await environment.network.listen("127.0.0.1:0")
    await listener.aclose()
    for address, reason in (
        (f"unix:{tmp_path}/none", "No such file or directory"),
        (listener.address, "Connection refused"),
    ):
        async with RpcClient(environment, address, ChunkReply) as client:
            with pytest.raises(Disconnected) as raised:
                await client.call(GetChunkStatus())
            assert str(raised.value) == f"cannot reach {address}: {reason}"


async def test_what_is_no_address_is_the_users_error() -> None:
    async with RpcClient(system_environment(), "nowhere", ChunkReply) as client:
        with pytest.raises(UserError, match="is not an address") as raised:
            await client.call(GetChunkStatus())
        assert raised.value.exit_status == 2


async def test_a_network_that_swallows_the_attempt(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with scene() as (on, _):
        on.network.is_black_hole = True
        start_s = trio.current_time()
        await on.call("a", GetChunkStatus())
        assert trio.current_time() - start_s == pytest.approx(CONNECT_TIMEOUT_S)
        assert isinstance(on.outcomes["a"], Disconnected)
        assert str(on.outcomes["a"]) == f"cannot reach {ADDRESS}: no answer within 3 s"


# ------------------------------------------------------------------------------ the end


async def test_closing_tells_those_who_wait() -> None:
    environment = memory_environment()
    listener = await environment.network.listen(ADDRESS)
    outcomes: list[BaseException] = []

    async def caller(client: RpcClient[Any]) -> None:
        with pytest.raises(Disconnected, match=ADDRESS) as raised:
            await client.call(GetChunkStatus())
        outcomes.append(raised.value)

    async with trio.open_nursery() as nursery:
        async with RpcClient(environment, ADDRESS, ChunkReply) as client:
            nursery.start_soon(caller, client)
            peer = Peer(await listener.accept(), ChunkRequest)
            await peer.receive()
        await caller(client)
        assert await peer.receive() is None
    assert len(outcomes) == 2


async def test_closing_tells_those_who_wait_for_a_link() -> None:
    environment = memory_environment()
    network: Any = environment.network
    network.is_black_hole = True
    outcomes: list[str] = []

    async def caller(client: RpcClient[Any]) -> None:
        with pytest.raises(Disconnected) as raised:
            await client.call(GetChunkStatus())
        outcomes.append(str(raised.value))

    async with (
        trio.open_nursery() as nursery,
        RpcClient(environment, ADDRESS, ChunkReply) as client,
    ):
        nursery.start_soon(caller, client)
        await trio.testing.wait_all_tasks_blocked()
    assert outcomes == [f"the client of {ADDRESS} was closed"]


@pytest.mark.parametrize("is_linked", [False, True])
async def test_an_error_in_the_block_comes_out_as_it_is(is_linked: bool) -> None:
    """No exception group around it, with a link open or not."""
    environment = memory_environment()
    listener = await environment.network.listen(ADDRESS)

    async def block() -> None:
        async with RpcClient(environment, ADDRESS, ChunkReply) as client:
            if is_linked:
                with trio.move_on_after(0):
                    await client.call(GetChunkStatus())
                await listener.accept()
            raise NoSpace("mine")

    with pytest.raises(NoSpace, match="mine"):
        await block()


async def test_an_error_in_a_cancelled_block_is_not_hidden() -> None:
    environment = memory_environment()
    await environment.network.listen(ADDRESS)

    async def block(scope: trio.CancelScope) -> None:
        async with RpcClient(environment, ADDRESS, ChunkReply) as client:
            with trio.move_on_after(0):
                await client.call(GetChunkStatus())
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
            raise NoSpace("mine")

    seen: list[str] = []
    with trio.CancelScope() as scope:
        try:
            await block(scope)
        except NoSpace as error:
            seen.append(str(error))
    # Looked at out here: the scope would swallow what a cancellation hides.
    assert seen == ["mine"]


async def test_a_cancelled_block_ends_as_cancelled() -> None:
    environment = memory_environment()
    await environment.network.listen(ADDRESS)
    reached: list[str] = []
    with trio.CancelScope() as scope:
        async with RpcClient(environment, ADDRESS, ChunkReply) as client:
            scope.cancel()
            await client.call(GetChunkStatus())
        reached.append("behind the block")
    assert scope.cancelled_caught
    assert reached == []


async def test_a_bug_in_a_reply_ends_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """An AssertionError in a task of the client is not swallowed, and the caller does not hang."""
    environment = memory_environment()
    listener = await environment.network.listen(ADDRESS)

    def broken(self: object, request_id: int) -> None:
        raise AssertionError("a bug")

    monkeypatch.setattr(PendingCalls, "answer", broken)

    async def answer_once() -> None:
        peer = Peer(await listener.accept(), ChunkRequest)
        await peer.receive()
        await peer.send(1, Done())

    with pytest.RaisesGroup(
        pytest.RaisesExc(AssertionError, match="a bug"), flatten_subgroups=True
    ):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer_once)
            async with RpcClient(environment, ADDRESS, ChunkReply) as client:
                with pytest.raises(Disconnected):
                    await client.call(GetChunkStatus())
                await trio.sleep_forever()
