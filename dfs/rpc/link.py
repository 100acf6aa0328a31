"""One stream with packets in both directions: what client and server share.

`send` never waits: it hands the kernel what it takes at once, and leaves the rest to one writer
task. So a caller that is cancelled cannot cut a packet in two, and small packets that gather while
a send is under way leave together. It knows nothing of calls, handlers or deadlines.
"""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import trio

from dfs.core.packets import BUFFER_BYTES, Packet, PacketReader
from dfs.limits import KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dfs.core.packets import Buffer

M = TypeVar("M")

BATCH_BYTES_MAX: Final = 64 * KIB
"""Small buffers are joined up to this size for one send."""
PIECE_BYTES_MAX: Final = 256 * KIB
"""Large buffers are sent in pieces of this size, each of which counts as progress."""
SEND_QUEUE_BYTES_MAX: Final = 1 * MIB
"""Above this much unsent, whoever can wait should (`has_room`)."""
BUFFERS_PER_WRITE_MAX: Final = 64


class Link(Generic[M]):
    """A stream that carries packets. `run_writer` must run as long as the link is used.

    Raises trio.BrokenResourceError when the link broke and trio.ClosedResourceError when it was
    closed here; `next_packet` also RemoteProtocolError.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        message_type: Any,
        before_close: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
    ) -> None:
        self._stream = stream
        self._before_close = before_close
        self._socket = stream.socket if isinstance(stream, trio.SocketStream) else None
        self._write: Callable[[list[Buffer]], int] | None = _write_of(stream)
        self._reader: PacketReader[M] = PacketReader(message_type)
        self._queue: deque[Buffer] = deque()
        self._queued_bytes = 0
        """Of the queue and of what the writer is sending right now."""
        self._is_closed = False
        self._may_close = trio.Event()
        """Set when `before_close` is over."""
        self._queue_filled = trio.Event()
        self._room_made = trio.Event()
        self.last_received_s = trio.current_time()
        self.bulk_progress_s = trio.current_time()
        """When a large packet last moved forward, in either direction."""

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    @property
    def is_inside_packet(self) -> bool:
        """The other side has begun a packet and not ended it."""
        return self._reader.is_inside_packet

    def send(self, buffers: list[Buffer]) -> None:
        """Send a packet without waiting. The buffers must not change until they have been sent."""
        if self._is_closed:
            raise trio.ClosedResourceError("the link is closed")
        if self._write is not None and self._queued_bytes == 0:
            buffers = self._write_now(self._write, buffers)
        if buffers:
            self._queue.extend(buffers)
            self._queued_bytes += sum(len(buffer) for buffer in buffers)
            self._queue_filled.set()

    async def wait_for_room(self) -> None:
        """Return once less than SEND_QUEUE_BYTES_MAX waits to be sent, or the link is closed."""
        while self._queued_bytes > SEND_QUEUE_BYTES_MAX and not self._is_closed:
            await self._room_made.wait()

    async def wait_sent(self) -> None:
        """Return once all is handed to the kernel, or the link is closed."""
        while self._queued_bytes > 0 and not self._is_closed:
            await self._room_made.wait()

    async def run_writer(self) -> None:
        """Send what `send` could not, until the link is closed or broken."""
        try:
            while not self._is_closed:
                if not self._queue:
                    self._queue_filled = trio.Event()
                    await self._queue_filled.wait()
                    continue
                await self._send_batch()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await self.aclose()

    async def next_packet(self) -> Packet[M] | None:
        """The next packet, or None: the other side ended the stream."""
        while True:
            packet = self._reader.next_packet()
            if packet is not None:
                return packet
            if not await self._receive():
                return None

    async def aclose(self) -> None:
        """Close the stream now; what was not sent is dropped. May be called again."""
        is_first = not self._is_closed
        self._is_closed = True
        self._queue.clear()
        self._queued_bytes = 0
        self._queue_filled.set()
        self._room_made.set()
        with trio.CancelScope(shield=True):
            if is_first:
                await self._before_close()
                self._may_close.set()
            await self._may_close.wait()
        await trio.aclose_forcefully(self._stream)

    async def _receive(self) -> bool:
        """Receive once. False at the end of the stream."""
        if self._is_closed:
            raise trio.ClosedResourceError("the link is closed")
        if self._socket is not None:
            count = await self._receive_in_place(self._socket)
        else:
            data = await self._stream.receive_some(BUFFER_BYTES)
            self._reader.feed(data)
            count = len(data)
        self.last_received_s = trio.current_time()
        if self._reader.is_inside_body:
            self.bulk_progress_s = self.last_received_s
        return count > 0

    async def _receive_in_place(self, socket: trio.socket.SocketType) -> int:
        """Bytes received, without a copy in between."""
        while True:
            await trio.lowlevel.wait_readable(socket)
            try:
                count = os.readv(socket.fileno(), [self._reader.space()])
            except BlockingIOError:
                continue
            except OSError as error:
                raise trio.BrokenResourceError(str(error)) from error
            if count > 0:
                self._reader.filled(count)
            return count

    def _write_now(
        self, write: Callable[[list[Buffer]], int], buffers: list[Buffer]
    ) -> list[Buffer]:
        """Give the kernel what it takes without waiting; returns the rest."""
        try:
            count = write(buffers[:BUFFERS_PER_WRITE_MAX])
        except BlockingIOError:
            return buffers
        except OSError as error:
            raise trio.BrokenResourceError(str(error)) from error
        return _after(buffers, count)

    async def _send_batch(self) -> None:
        batch = self._next_batch()
        await self._stream.send_all(batch)
        self._queued_bytes -= min(len(batch), self._queued_bytes)
        if self._queued_bytes > 0 or len(batch) > BATCH_BYTES_MAX:
            self.bulk_progress_s = trio.current_time()
        self._room_made.set()
        self._room_made = trio.Event()

    def _next_batch(self) -> Buffer:
        """Small buffers joined, or a piece of a large one."""
        first = self._queue.popleft()
        if len(first) > PIECE_BYTES_MAX:
            piece = memoryview(first)
            self._queue.appendleft(piece[PIECE_BYTES_MAX:])
            return piece[:PIECE_BYTES_MAX]
        parts, total = [first], len(first)
        while self._queue and total + len(self._queue[0]) <= BATCH_BYTES_MAX:
            parts.append(self._queue.popleft())
            total += len(parts[-1])
        assert total > 0
        return first if len(parts) == 1 else b"".join(parts)


def _write_of(stream: trio.abc.Stream) -> Callable[[list[Buffer]], int] | None:
    """How to hand buffers to the kernel without waiting, as writev(2) does; None: `send_all` only.

    The simulation's streams have a `write_now` for it.
    """
    if isinstance(stream, trio.SocketStream):
        socket = stream.socket
        return lambda buffers: os.writev(socket.fileno(), buffers)
    write_now: Callable[[list[Buffer]], int] | None = getattr(stream, "write_now", None)
    return write_now


def _after(buffers: list[Buffer], count: int) -> list[Buffer]:
    """What is left of the buffers behind their first `count` bytes."""
    for index, buffer in enumerate(buffers):
        if count < len(buffer):
            return [memoryview(buffer)[count:], *buffers[index + 1 :]]
        count -= len(buffer)
    assert count == 0
    return []
