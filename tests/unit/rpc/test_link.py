"""A link: packets whole and in order, batches, pieces, and what is left after a close."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from dfs.core.messages import ChunkReply, Done, GetChunkStatus
from dfs.core.packets import encode_packet
from dfs.limits import KIB, MIB
from dfs.rpc.link import BATCH_BYTES_MAX, PIECE_BYTES_MAX, SEND_QUEUE_BYTES_MAX, Link
from tests.unit.rpc.memory_network import Peer, packet_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator


class SlowStream(trio.abc.Stream):
    """Notes what each send carries, and lets the test say when it ends."""

    def __init__(self) -> None:
        self.sends: list[bytes] = []
        self.gate = trio.Semaphore(0)

    async def send_all(self, data: Any) -> None:
        self.sends.append(bytes(data))
        await self.gate.acquire()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


@pytest.fixture
def socket_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ends = socket.socketpair()
    yield ends
    for end in ends:
        end.close()


def as_stream(end: socket.socket) -> trio.SocketStream:
    return trio.SocketStream(trio.socket.from_stdlib_socket(end))


async def test_small_packets_that_gather_leave_together() -> None:
    stream = SlowStream()
    link: Link[Any] = Link(stream, ChunkReply)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run_writer)
        link.send(encode_packet(1, Done()))
        await trio.testing.wait_all_tasks_blocked()
        for request_id in range(2, 50):
            link.send(encode_packet(request_id, Done(), b"x" * request_id))
        stream.gate.release()
        await trio.testing.wait_all_tasks_blocked()
        assert stream.sends == [
            packet_bytes(1, Done()),
            b"".join(packet_bytes(i, Done(), b"x" * i) for i in range(2, 50)),
        ]
        nursery.cancel_scope.cancel()


async def test_large_payloads_go_in_pieces_that_count_as_progress(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A slow but moving upload is no silence: every piece tells the time."""
    stream = SlowStream()
    link: Link[Any] = Link(stream, ChunkReply)
    payload = bytes(range(256)) * 4 * KIB
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run_writer)
        link.send(encode_packet(1, Done(), payload))
        for _ in range(20):
            await trio.sleep(1)
            stream.gate.release()
            await trio.testing.wait_all_tasks_blocked()
            if len(stream.sends) == 3:
                assert link.bulk_progress_s == trio.current_time()
        assert b"".join(stream.sends) == packet_bytes(1, Done(), payload)
        assert max(len(sent) for sent in stream.sends) <= max(PIECE_BYTES_MAX, BATCH_BYTES_MAX)
        await link.wait_sent()
        nursery.cancel_scope.cancel()


async def test_wait_for_room_holds_the_sender_back() -> None:
    stream = SlowStream()
    link: Link[Any] = Link(stream, ChunkReply)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run_writer)
        await link.wait_for_room()
        link.send(encode_packet(1, Done(), bytes(SEND_QUEUE_BYTES_MAX + 1)))
        with trio.move_on_after(0) as scope:
            await link.wait_for_room()
        assert scope.cancelled_caught
        nursery.start_soon(link.wait_for_room)
        for _ in range(10):
            stream.gate.release()
        await link.wait_for_room()
        nursery.cancel_scope.cancel()


async def test_closing_frees_whoever_waits() -> None:
    stream = SlowStream()
    link: Link[Any] = Link(stream, ChunkReply)
    async with trio.open_nursery() as nursery:
        link.send(encode_packet(1, Done(), bytes(2 * MIB)))
        nursery.start_soon(link.wait_for_room)
        nursery.start_soon(link.wait_sent)
        await trio.testing.wait_all_tasks_blocked()
        await link.aclose()
        await link.aclose()
    assert link.is_closed
    await link.run_writer()
    with pytest.raises(trio.ClosedResourceError):
        link.send(encode_packet(2, Done()))
    with pytest.raises(trio.ClosedResourceError):
        await link.next_packet()


async def test_packets_larger_than_the_sockets_buffers(
    socket_pair: tuple[socket.socket, socket.socket],
) -> None:
    """What the kernel does not take at once, the writer sends; order and bytes are kept."""
    left: Link[Any] = Link(as_stream(socket_pair[0]), ChunkReply)
    right: Link[Any] = Link(as_stream(socket_pair[1]), ChunkReply)
    payloads = [bytes([i]) * size for i, size in enumerate([3 * MIB, 0, 10, 1 * MIB, 70_000, 1])]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(left.run_writer)
        for i, payload in enumerate(payloads):
            half = len(payload) // 2
            left.send(encode_packet(i, Done(), [payload[:half], memoryview(payload)[half:]]))
        for i, payload in enumerate(payloads):
            packet = await right.next_packet()
            assert packet is not None
            assert packet.request_id == i
            assert packet.payload == payload
        await left.wait_sent()
        await left.aclose()
        assert await right.next_packet() is None
    await right.aclose()


async def test_many_payload_parts(socket_pair: tuple[socket.socket, socket.socket]) -> None:
    """More buffers than one gather-write takes."""
    left: Link[Any] = Link(as_stream(socket_pair[0]), ChunkReply)
    right = Peer(as_stream(socket_pair[1]), ChunkReply)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(left.run_writer)
        left.send(encode_packet(1, Done(), [bytes([i % 256]) * 3 for i in range(3000)]))
        packet = await right.receive()
        assert packet is not None
        assert packet.payload == b"".join(bytes([i % 256]) * 3 for i in range(3000))
        await left.aclose()


async def test_a_broken_socket_is_told(socket_pair: tuple[socket.socket, socket.socket]) -> None:
    link: Link[Any] = Link(as_stream(socket_pair[0]), ChunkReply)
    socket_pair[1].close()
    with pytest.raises(trio.BrokenResourceError):
        link.send(encode_packet(1, GetChunkStatus()))
    await link.aclose()


async def test_the_writer_closes_a_link_that_breaks(
    socket_pair: tuple[socket.socket, socket.socket],
) -> None:
    link: Link[Any] = Link(as_stream(socket_pair[0]), ChunkReply)
    async with trio.open_nursery() as nursery:
        link.send(encode_packet(1, Done(), bytes(4 * MIB)))
        nursery.start_soon(link.run_writer)
        await trio.testing.wait_all_tasks_blocked()
        socket_pair[1].close()
    assert link.is_closed


async def test_an_end_inside_a_packet_is_seen() -> None:
    near, far = trio.testing.memory_stream_pair()
    link: Link[Any] = Link(near, ChunkReply)
    await far.send_all(packet_bytes(1, Done()) + b"dfs\x01")
    packet = await link.next_packet()
    assert packet is not None
    await far.aclose()
    assert await link.next_packet() is None
    assert link.is_inside_packet
    await link.aclose()


async def test_whoever_wants_to_hears_of_the_close_before_the_stream_ends() -> None:
    """Goal: what depended on the link is over before the other side can notice. Method: note the
    order; a second close says nothing more."""
    heard: list[str] = []

    class Stream(SlowStream):
        async def aclose(self) -> None:
            heard.append("stream closed")

    async def tell() -> None:
        await trio.lowlevel.checkpoint()
        heard.append("told")

    link: Link[Any] = Link(Stream(), ChunkReply, tell)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.aclose)
        nursery.start_soon(link.aclose)
    assert heard == ["told", "stream closed", "stream closed"]
