"""Serves requests: accepts links, hands each request to a handler, sends the answers back.

Per connection one task reads, one writes, and workers run handlers. Requests wait in one queue from
which every free worker takes the oldest, so handlers start in order of arrival whichever worker
runs first. Answers leave in the order in which handlers end.

When a connection ends, handlers that run are not cancelled: a mutation is done wholly or not at
all, and its answer, which nobody would read, is dropped. Requests not yet started are dropped too
(they are the last ones that came). Memory per connection is bounded: no request is read while
REQUESTS_IN_FLIGHT_MAX are being worked on, while their payloads exceed
CONNECTION_PAYLOAD_BYTES_MAX, or while the other side does not read its answers.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import trio

from dfs.core.calls import failure_of
from dfs.core.packets import Packet, encode_packet
from dfs.errors import DfsError, LocalProtocolError, RemoteProtocolError
from dfs.limits import CONNECTION_PAYLOAD_BYTES_MAX, REQUESTS_IN_FLIGHT_MAX
from dfs.rpc.link import Link

if TYPE_CHECKING:
    from dfs.core.packets import Buffer
    from dfs.environment import Environment, Listener

log = logging.getLogger(__name__)

IDLE_WORKERS_MAX: Final = 16
"""Workers kept waiting per connection; more than that end when they have nothing to do."""
ACCEPT_PAUSE_S: Final = 0.1
GOODBYE_S: Final = 1.0
"""How long to try to tell the other side why its link is being closed."""
_OUT_OF_RESOURCES: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

Handler = Callable[..., Awaitable[Any]]
"""`async def handle(request, payload, connection) -> reply | (reply, payload)`"""


class Connection:
    """The link that a request came by, as handlers see it."""

    def __init__(self, stream: trio.abc.Stream, number: int) -> None:
        assert number >= 1
        self.number = number
        """Counts the connections of one server from 1."""
        self.peer = _peer_name(stream, number)
        """Names the other side in logs."""
        self.is_local = _is_local(stream)
        self.is_open = True


class _ServedConnection:
    """Reads, works and answers for one connection."""

    def __init__(
        self,
        link: Link[Any],
        handler: Handler,
        connection: Connection,
        on_end: Callable[[Connection, bool], None],
    ) -> None:
        self._link = link
        self._handler = handler
        self._connection = connection
        self._on_end = on_end
        self._is_orderly_end = False
        self._requests: deque[Packet[Any]] = deque()
        self._idle: list[trio.lowlevel.Task] = []
        self._in_flight = 0
        """Requests queued or being worked on."""
        self._payload_bytes = 0
        """Of the requests in flight."""
        self._request_ended = trio.Event()

    async def run(self) -> None:
        """Serve until the other side leaves and the last handler has ended."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._link.run_writer)
            try:
                await self._read_requests(nursery)
            finally:
                self._connection.is_open = False
                self._drop_queued()
                self._on_end(self._connection, self._is_orderly_end)
                await self._link.aclose()
        assert self._in_flight == 0

    async def _read_requests(self, nursery: trio.Nursery) -> None:
        try:
            while (packet := await self._link.next_packet()) is not None:
                await self._wait_for_room()
                self._requests.append(packet)
                self._in_flight += 1
                self._payload_bytes += len(packet.payload)
                self._wake_worker(nursery)
            self._is_orderly_end = True
            if self._link.is_inside_packet:
                log.info("%s: left in the middle of a packet", self._connection.peer)
        except RemoteProtocolError as error:
            log.warning("%s: %s; closing the connection", self._connection.peer, error)
            await self._say_goodbye(error)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            # On this machine only the other side's end does that, with something left unread.
            self._is_orderly_end = self._connection.is_local
            log.info("%s: link broke: %s", self._connection.peer, error)

    async def _wait_for_room(self) -> None:
        """Return when one more request may be taken on."""
        while True:
            await self._link.wait_for_room()
            is_busy = self._in_flight >= REQUESTS_IN_FLIGHT_MAX
            if not is_busy and self._payload_bytes < CONNECTION_PAYLOAD_BYTES_MAX:
                return
            self._request_ended = trio.Event()
            await self._request_ended.wait()

    def _wake_worker(self, nursery: trio.Nursery) -> None:
        if self._idle:
            trio.lowlevel.reschedule(self._idle.pop())
        else:
            nursery.start_soon(self._work)

    async def _work(self) -> None:
        """Take the oldest request and answer it, again and again."""
        while True:
            while self._requests:
                await self._serve_one(self._requests.popleft())
            if not self._connection.is_open or len(self._idle) >= IDLE_WORKERS_MAX:
                return
            await self._rest()

    async def _rest(self) -> None:
        """Wait to be woken for a request, or for the end."""
        task = trio.lowlevel.current_task()
        self._idle.append(task)

        def abort(_: object) -> trio.lowlevel.Abort:
            self._idle.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    async def _serve_one(self, packet: Packet[Any]) -> None:
        try:
            buffers = await self._answer(packet)
            self._send(buffers)
        finally:
            self._in_flight -= 1
            self._payload_bytes -= len(packet.payload)
            assert self._in_flight >= 0
            assert self._payload_bytes >= 0
            self._request_ended.set()

    async def _answer(self, packet: Packet[Any]) -> list[Buffer]:
        """Run the handler. DfsErrors become Failures; any other exception is a bug and goes up."""
        try:
            reply = await self._handler(packet.message, packet.payload, self._connection)
            message, payload = reply if isinstance(reply, tuple) else (reply, b"")
            return encode_packet(packet.request_id, message, payload)
        except DfsError as error:
            if isinstance(error, LocalProtocolError):
                log.error("%s: %s", self._connection.peer, error)
            return encode_packet(packet.request_id, failure_of(error))

    def _send(self, buffers: list[Buffer]) -> None:
        try:
            self._link.send(buffers)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            log.debug("%s: an answer found no reader: %s", self._connection.peer, error)

    async def _say_goodbye(self, error: RemoteProtocolError) -> None:
        """Tell the other side why, if it listens: a newer dfs whose user wants to know."""
        self._send(encode_packet(0, failure_of(error)))
        with trio.move_on_after(GOODBYE_S):
            await self._link.wait_sent()

    def _drop_queued(self) -> None:
        """Forget requests that no worker has begun, and let resting workers go."""
        self._in_flight -= len(self._requests)
        self._payload_bytes -= sum(len(packet.payload) for packet in self._requests)
        self._requests.clear()
        while self._idle:
            trio.lowlevel.reschedule(self._idle.pop())


async def serve(
    environment: Environment,
    listener: Listener,
    request_type: Any,
    handler: Handler,
    *,
    on_end: Callable[[Connection, bool], None] = lambda _connection, _is_orderly: None,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled, then close the listener. Starts with the listener's address.

    `handler(request, payload, connection)` returns the reply, or (reply, payload). A DfsError that
    it raises travels to the caller; any other exception ends the server, as a bug should.
    `on_end(connection, is_orderly)` hears when a connection has ended, and whether that was the
    other side's will.
    """
    assert environment.network is not None
    number = 0
    async with trio.open_nursery() as nursery:
        task_status.started(listener.address)
        try:
            while True:
                stream = await _accept(listener)
                number += 1
                connection = Connection(stream, number)
                link: Link[Any] = Link(stream, request_type)
                served = _ServedConnection(link, handler, connection, on_end)
                nursery.start_soon(served.run)
        finally:
            with trio.CancelScope(shield=True):
                await listener.aclose()


async def _accept(listener: Listener) -> trio.abc.Stream:
    """The next stream; waits out a lack of file descriptors or memory."""
    while True:
        try:
            return await listener.accept()
        except OSError as error:
            if error.errno not in _OUT_OF_RESOURCES:
                raise
            log.error("cannot accept a connection: %s", os.strerror(error.errno))
            await trio.sleep(ACCEPT_PAUSE_S)


def _is_local(stream: trio.abc.Stream) -> bool:
    """The other side is a process of this machine, and nothing lies in between."""
    return isinstance(stream, trio.SocketStream) and stream.socket.family == socket.AF_UNIX


def _peer_name(stream: trio.abc.Stream, number: int) -> str:
    """The other side's address, or its process on this machine."""
    if not isinstance(stream, trio.SocketStream):
        return f"connection {number}"
    if stream.socket.family == socket.AF_UNIX:
        packed = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid, uid, _ = struct.unpack("3i", packed)
        return f"process {pid} of user {uid}"
    try:
        host, port = stream.socket.getpeername()[:2]
    except OSError:
        return f"connection {number}"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
