"""Serving: order, bounds, what peers may do wrong, and what happens when they leave."""

from __future__ import annotations

import errno
import logging
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from dfs.core.messages import (
    ChunkReply,
    ChunkRequest,
    DeleteBlocks,
    Done,
    Failure,
    GetBlock,
    GetChunkStatus,
    HasBlocks,
    ListBlocks,
)
from dfs.core.packets import MAGIC, PREFIX
from dfs.errors import Fenced
from dfs.limits import (
    CONNECTION_PAYLOAD_BYTES_MAX,
    MIB,
    PACKET_PAYLOAD_BYTES_MAX,
    REQUESTS_IN_FLIGHT_MAX,
)
from dfs.rpc.link import SEND_QUEUE_BYTES_MAX
from dfs.rpc.server import IDLE_WORKERS_MAX, Connection, serve
from dfs.rpc.transport import system_environment
from dfs.types import BlockId
from tests.unit.rpc.memory_network import MemoryNetwork, Peer, memory_environment, packet_bytes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

ADDRESS = "chunk-1:7001"
BLOCK = BlockId(bytes(32))


class Scene:
    """A server whose handler is the test's, and peers whose every byte the test sends."""

    def __init__(self, network: MemoryNetwork) -> None:
        self._network = network
        self.started: list[Any] = []
        """Payloads of requests in the order in which their handlers started."""
        self.ended: list[Any] = []
        self.connections: list[Connection] = []
        self.gates: dict[bytes, trio.Event] = {}
        self.gate = trio.Event()
        """Opens for every request that has no gate of its own."""

    async def peer(self) -> Peer:
        return Peer(await self._network.connect(ADDRESS), ChunkReply)

    async def handle(self, request: Any, payload: Any, connection: Connection) -> Any:
        """Note the start, wait for the gate, note the end, echo the payload."""
        self.connections.append(connection)
        self.started.append(bytes(payload[:8]))
        await self.gates.get(bytes(payload), self.gate).wait()
        self.ended.append(bytes(payload[:8]))
        return Done(), payload


@asynccontextmanager
async def scene(
    handler: Callable[..., Awaitable[Any]] | None = None,
) -> AsyncIterator[tuple[Scene, trio.Nursery]]:
    environment = memory_environment()
    network = environment.network
    assert isinstance(network, MemoryNetwork)
    on = Scene(network)
    listener = await network.listen(ADDRESS)
    async with trio.open_nursery() as nursery:
        start = partial(serve, environment, listener, ChunkRequest, handler or on.handle)
        assert await nursery.start(start) == ADDRESS
        yield on, nursery
        nursery.cancel_scope.cancel()


def label(number: int) -> bytes:
    return number.to_bytes(8, "big")


# ------------------------------------------------------------------------------ order


@pytest.mark.parametrize("is_one_send", [True, False])
async def test_handlers_start_in_order_of_arrival(is_one_send: bool) -> None:
    """Hundreds of requests, in one burst or one by one, while earlier ones end at odd times."""
    count = REQUESTS_IN_FLIGHT_MAX - 1
    async with scene() as (on, _):
        for number in range(0, count, 3):
            on.gates[label(number)] = trio.Event()
            on.gates[label(number)].set()
        peer = await on.peer()
        packets = [packet_bytes(n + 1, GetChunkStatus(), label(n)) for n in range(count)]
        for data in [b"".join(packets)] if is_one_send else packets:
            await peer.send_bytes(data)
        await trio.testing.wait_all_tasks_blocked()
        assert on.started == [label(number) for number in range(count)]
        assert sorted(on.ended) == [label(number) for number in range(0, count, 3)]


async def test_order_holds_when_resting_workers_are_woken() -> None:
    """Several rounds over the same workers: whichever task runs first takes the oldest."""
    async with scene() as (on, _):
        on.gate.set()
        peer = await on.peer()
        for first in range(0, 200, 10):
            numbers = range(first, first + 10)
            await peer.send_bytes(
                b"".join(packet_bytes(n + 1, GetChunkStatus(), label(n)) for n in numbers)
            )
            await peer.receive_many(10)
        assert on.started == [label(number) for number in range(200)]


async def test_answers_leave_as_handlers_end() -> None:
    async with scene() as (on, _):
        on.gates = {name: trio.Event() for name in (b"a", b"b", b"c")}
        peer = await on.peer()
        for request_id, name in enumerate(on.gates, 1):
            await peer.send(request_id, GetChunkStatus(), name)
        for request_id, name in ((3, b"c"), (1, b"a"), (2, b"b")):
            on.gates[name].set()
            packet = await peer.receive()
            assert packet == (request_id, Done(), name)


# ------------------------------------------------------------------------------ bounds


async def test_requests_in_flight_are_bounded() -> None:
    async with scene() as (on, nursery):
        peer = await on.peer()
        count = REQUESTS_IN_FLIGHT_MAX + 50
        for number in range(count):
            nursery.start_soon(peer.send, number + 1, GetChunkStatus(), label(number))
            await trio.testing.wait_all_tasks_blocked()
        assert len(on.started) == REQUESTS_IN_FLIGHT_MAX
        on.gate.set()
        await peer.receive_many(count)
        assert on.started == [label(number) for number in range(count)]


async def test_payloads_in_flight_are_bounded() -> None:
    async with scene() as (on, nursery):
        peer = await on.peer()
        payload = bytes(4 * MIB)
        for number in range(20):
            nursery.start_soon(peer.send, number + 1, GetChunkStatus(), payload)
            await trio.testing.wait_all_tasks_blocked()
        assert len(on.started) == CONNECTION_PAYLOAD_BYTES_MAX // len(payload)
        on.gate.set()
        await peer.receive_many(20)
        assert len(on.ended) == 20


async def test_a_peer_that_reads_no_answers_is_not_worked_for(tmp_path: Path) -> None:
    """Over a real socket: a flood of small requests with large answers stops at the bounds."""
    environment = system_environment()
    listener = await environment.network.listen(f"unix:{tmp_path}/s")
    answered = 0

    async def handle(request: Any, payload: Any, connection: Connection) -> Any:
        nonlocal answered
        answered += 1
        return Done(), bytes(64 * 1024)

    count = 2000
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(serve, environment, listener, ChunkRequest, handle))
        peer = Peer(await environment.network.connect(listener.address), ChunkReply)
        for number in range(count):
            nursery.start_soon(peer_send_later, peer, number + 1)
        await trio.testing.wait_all_tasks_blocked()
        queued_answers_max = SEND_QUEUE_BYTES_MAX // (64 * 1024)
        socket_answers_max = 64
        assert answered <= REQUESTS_IN_FLIGHT_MAX + queued_answers_max + socket_answers_max
        packets = await peer.receive_many(count)
        assert sorted(packet.request_id for packet in packets) == list(range(1, count + 1))
        await peer.stream.aclose()
        nursery.cancel_scope.cancel()


_SENDING = trio.lowlevel.RunVar[Any]("_SENDING")


async def peer_send_later(peer: Peer, request_id: int) -> None:
    """Send when the stream is free: trio allows one sender at a time."""
    lock = _SENDING.get(None)
    if lock is None:
        lock = trio.Lock()
        _SENDING.set(lock)
    async with lock:
        await peer.send(request_id, GetChunkStatus())


async def test_workers_end_when_they_are_too_many() -> None:
    async with scene() as (on, nursery):
        peer = await on.peer()
        tasks_before = count_tasks(nursery)
        for number in range(100):
            await peer.send(number + 1, GetChunkStatus(), label(number))
        await trio.testing.wait_all_tasks_blocked()
        assert count_tasks(nursery) >= tasks_before + 100
        on.gate.set()
        await peer.receive_many(100)
        await trio.testing.wait_all_tasks_blocked()
        assert count_tasks(nursery) <= tasks_before + IDLE_WORKERS_MAX + 2


async def test_nothing_is_left_of_a_connection_that_ended() -> None:
    async with scene() as (on, nursery):
        on.gate.set()
        tasks_before = count_tasks(nursery)
        peer = await on.peer()
        for number in range(10):
            await peer.send(number + 1, GetChunkStatus(), label(number))
        await peer.receive_many(10)
        assert count_tasks(nursery) > tasks_before
        await peer.stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert count_tasks(nursery) == tasks_before


def count_tasks(nursery: trio.Nursery) -> int:
    """Tasks below this nursery."""
    return sum(
        1 + sum(count_tasks(child) for child in task.child_nurseries)
        for task in nursery.child_tasks
    )


# ------------------------------------------------------------------------------ failures


async def test_errors_of_dfs_travel_to_the_caller() -> None:
    async def handle(request: Any, payload: Any, connection: Connection) -> Any:
        await trio.lowlevel.checkpoint()
        raise Fenced("session 5 was expired")

    async with scene(handle) as (on, _):
        peer = await on.peer()
        await peer.send(1, GetChunkStatus())
        packet = await peer.receive()
        assert packet == (1, Failure(kind="Fenced", message="session 5 was expired"), b"")


@pytest.mark.parametrize("bug", [AssertionError("broken rule"), ZeroDivisionError("oops")])
async def test_a_bug_stops_the_server(bug: Exception) -> None:
    async def handle(request: Any, payload: Any, connection: Connection) -> Any:
        await trio.lowlevel.checkpoint()
        raise bug

    with pytest.RaisesGroup(pytest.RaisesExc(type(bug), match=str(bug)), flatten_subgroups=True):
        async with scene(handle) as (on, _):
            peer = await on.peer()
            await peer.send(1, GetChunkStatus())
            await trio.sleep_forever()


async def test_an_answer_that_is_too_large_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async def handle(request: Any, payload: Any, connection: Connection) -> Any:
        await trio.lowlevel.checkpoint()
        return Done(), bytes(PACKET_PAYLOAD_BYTES_MAX + 1)

    async with scene(handle) as (on, _):
        peer = await on.peer()
        await peer.send(1, GetChunkStatus())
        packet = await peer.receive()
        assert packet is not None
        assert packet.message.kind == "LocalProtocolError"
        assert "Done cannot be sent" in packet.message.message
        assert [record.levelname for record in caplog.records] == ["ERROR"]


# ------------------------------------------------------------------------------ nonsense


NONSENSE = [
    (b"GET / HTTP/1.1\r\n\r\n", "not a dfs packet: it begins with b'GET'"),
    (PREFIX.pack(MAGIC, 4, 9, 0), "speaks protocol 4, this dfs speaks 1: upgrade this side"),
    (PREFIX.pack(MAGIC, 1, (1 << 32) - 1, 0), "packet too large: its header has 4294967295 bytes"),
    (PREFIX.pack(MAGIC, 1, 9, (1 << 32) - 1), "packet too large: its payload has 4294967295"),
    (packet_bytes(1, Done()), "packet makes no sense"),
    (bytes(1000), "not a dfs packet"),
]


@pytest.mark.parametrize(("data", "reason"), NONSENSE)
async def test_nonsense_closes_one_connection_and_harms_no_other(
    data: bytes, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One WARNING line that names the peer, a word of farewell, and the server lives."""
    async with scene() as (on, _):
        on.gate.set()
        good, bad = await on.peer(), await on.peer()
        await bad.send(1, GetChunkStatus(), b"fine")
        assert await bad.receive() == (1, Done(), b"fine")
        await bad.send_bytes(data)
        farewell = await bad.receive()
        assert farewell is not None
        assert farewell.request_id == 0
        assert farewell.message.kind == "RemoteProtocolError"
        assert reason in farewell.message.message
        assert await bad.receive() is None
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        line = caplog.records[0].getMessage()
        assert line.startswith("connection 2: ")
        assert reason in line
        assert line.isprintable()
        await good.send(1, GetChunkStatus(), b"good")
        assert await good.receive() == (1, Done(), b"good")


@pytest.mark.parametrize("kind", ["unix", "tcp"])
async def test_the_warning_names_the_peer(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    environment = system_environment()
    address = f"unix:{tmp_path}/s" if kind == "unix" else "127.0.0.1:0"
    listener = await environment.network.listen(address)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(serve, environment, listener, ChunkRequest, Scene.handle))
        stream = await environment.network.connect(listener.address)
        await stream.send_all(b"rubbish")
        peer = Peer(stream, ChunkReply)
        farewell = await peer.receive()
        assert farewell is not None
        assert "not a dfs packet" in farewell.message.message
        await stream.aclose()
        nursery.cancel_scope.cancel()
    name = caplog.records[0].getMessage().split(": ")[0]
    assert name.startswith("process " if kind == "unix" else "127.0.0.1:")


async def test_nonsense_from_a_peer_that_reads_nothing(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The farewell is tried for a moment only."""
    async with scene() as (on, _):
        near, far = trio.testing.lockstep_stream_pair()
        listener: Any = on._network.listeners[ADDRESS]
        listener.arrive(far)
        start_s = trio.current_time()
        await near.send_all(b"rubbish")
        await trio.sleep(5)
        assert trio.current_time() - start_s == pytest.approx(5)
        with pytest.raises(trio.BrokenResourceError):
            await near.send_all(b"more")
    assert len(caplog.records) == 1


# ------------------------------------------------------------------------------ leaving


@pytest.mark.parametrize("last_bytes", [b"", b"dfs\x01\x00"])
async def test_handlers_outlive_their_connection(last_bytes: bytes) -> None:
    """A mutation that began is done wholly, though nobody waits for its answer any more."""
    async with scene() as (on, _):
        peer = await on.peer()
        for number in range(3):
            await peer.send(number + 1, GetChunkStatus(), label(number))
        await peer.send_bytes(last_bytes)
        await trio.testing.wait_all_tasks_blocked()
        assert [connection.is_open for connection in on.connections] == [True] * 3
        assert {connection.number for connection in on.connections} == {1}
        await peer.stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert on.ended == []
        assert not on.connections[0].is_open
        on.gate.set()
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(on.ended) == [label(number) for number in range(3)]


@pytest.mark.expects_warnings
async def test_what_was_begun_is_a_prefix_of_what_came() -> None:
    """Good requests and nonsense behind them in one send: none is begun before an earlier one."""
    async with scene() as (on, _):
        peer = await on.peer()
        packets = [packet_bytes(n + 1, GetChunkStatus(), label(n)) for n in range(50)]
        await peer.send_bytes(b"".join(packets) + b"rubbish")
        farewell = await peer.receive()
        assert farewell is not None
        assert farewell.request_id == 0
        on.gate.set()
        await trio.testing.wait_all_tasks_blocked()
        assert on.started == [label(number) for number in range(len(on.started))]
        assert sorted(on.ended) == on.started


async def test_ending_the_server_closes_the_listener_and_the_links() -> None:
    async with scene() as (on, _):
        peer = await on.peer()
        await peer.send(1, GetChunkStatus())
        await trio.testing.wait_all_tasks_blocked()
        assert ADDRESS in on._network.listeners
    assert ADDRESS not in on._network.listeners
    assert await peer.receive() is None


class StarvedListener:
    """Runs out of file descriptors twice, then serves."""

    address = ADDRESS

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._streams = [stream]
        self.failures = 2

    async def accept(self) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        if self.failures > 0:
            self.failures -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        if not self._streams:
            await trio.sleep_forever()
        return self._streams.pop()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_running_out_of_file_descriptors_is_waited_out(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    near, far = trio.testing.memory_stream_pair()
    peer = Peer(near, ChunkReply)

    async def handle(request: Any, payload: Any, connection: Connection) -> Any:
        await trio.lowlevel.checkpoint()
        return Done()

    async with trio.open_nursery() as nursery:
        listener = StarvedListener(far)
        nursery.start_soon(serve, memory_environment(), listener, ChunkRequest, handle)
        await peer.send(1, GetChunkStatus())
        assert await peer.receive() == (1, Done(), b"")
        nursery.cancel_scope.cancel()
    messages = [record.getMessage() for record in caplog.records]
    assert messages == ["cannot accept a connection: Too many open files"] * 2


async def test_requests_arrive_as_what_they_are() -> None:
    """Every request of the service reaches the handler decoded, payload beside it."""
    seen: list[Any] = []

    async def handle(request: Any, payload: Any, connection: Connection) -> Any:
        await trio.lowlevel.checkpoint()
        seen.append((request, bytes(payload)))
        return Done()

    requests = [
        GetBlock(block_id=BLOCK, first_frame=2),
        HasBlocks(block_ids=(BLOCK,)),
        DeleteBlocks(block_ids=()),
        ListBlocks(limit=7),
    ]
    async with scene(handle) as (on, _):
        peer = await on.peer()
        for request_id, request in enumerate(requests, 1):
            await peer.send(request_id, request, b"beside")
            await peer.receive()
    assert seen == [(request, b"beside") for request in requests]
