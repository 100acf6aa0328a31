"""Connections of the simulated network: two pipes each, which know nothing of each other.

Bytes of a pipe arrive in order, each piece after a delay that the network chooses. A pipe may be
held (the network is cut), void (what is sent is gone, and nobody says so) or reset.
"""

from __future__ import annotations

import errno
import math
import os
from collections import deque
from typing import TYPE_CHECKING

import trio

from tests.simulation.packets import PacketTap
from tests.simulation.scheduler import Alarm

if TYPE_CHECKING:
    from tests.simulation.network import SimNetwork
    from tests.simulation.process import Process


class Pipe:
    """One direction of a connection."""

    def __init__(self, network: SimNetwork, source: Process, target: Process) -> None:
        self.source = source
        self.target = target
        self.tap = PacketTap()
        self.bytes_on_way = 0
        self._network = network
        self._chunks: deque[tuple[float, bytes]] = deque()
        self._last_arrival_s = 0.0
        self._is_ended = False
        """No byte follows: after the chunks comes the end of the stream, or a reset."""
        self._is_reset = False
        self.is_void = False
        """The other machine has no power, or the connection is half open: what is sent is gone, and
        nobody says so."""
        self.is_unread = False
        """The reader closed its end: a further send is answered with a reset."""
        self._changed = trio.Event()
        self._reading: Alarm | None = None
        """Rings for the waiting reader when the next bytes arrive, or something else changes."""

    @property
    def is_drained(self) -> bool:
        """Nothing that was sent can still arrive."""
        is_read = self.target.is_alive and not self.is_unread
        return not self._chunks or self.is_void or not is_read

    def wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
        if self._reading is not None:
            self._reading.ring()

    async def wait(self) -> None:
        await self._changed.wait()

    async def wait_to_read(self) -> None:
        """Return when bytes have arrived, or something else has changed for the reader."""
        alarm = self._reading = Alarm()
        alarm.set(self.next_arrival_s)
        try:
            await alarm.wait()
        finally:
            self._reading = None

    def put(self, data: bytes) -> None:
        """Send one piece; it arrives behind everything sent before."""
        assert data
        self.bytes_on_way += len(data)
        if self.is_void or self.is_unread:
            return
        arrival_s = trio.current_time() + self._network.delay_s(
            len(data), self.source.host, self.target.host
        )
        self._last_arrival_s = max(self._last_arrival_s, arrival_s)
        self._chunks.append((self._last_arrival_s, data))
        if self._reading is not None:
            self._reading.set(self.next_arrival_s)

    def linger(self, until_s: float) -> None:
        """Let nothing that is on its way, or is sent from now on, arrive before then."""
        self._last_arrival_s = max(self._last_arrival_s, until_s)
        self._chunks = deque((max(arrival_s, until_s), data) for arrival_s, data in self._chunks)

    def end(self) -> None:
        """The sender closed: what is on its way still arrives."""
        self._is_ended = True
        self.wake()

    def reset(self, kept_chunks: int) -> int:
        """The connection is lost: only the first chunks arrive. Returns the bytes that do not."""
        lost = 0
        while len(self._chunks) > kept_chunks:
            lost += len(self._chunks.pop()[1])
        self._is_ended = self._is_reset = True
        self.is_void = False
        self.wake()
        return lost

    def stop_reading(self) -> None:
        """The reader closed its end."""
        self.is_unread = True
        self.wake()

    def darken(self) -> None:
        """One of the machines lost its power: nothing arrives any more, not even the end."""
        self._chunks.clear()
        self.is_void = True
        self.wake()

    @property
    def chunk_count(self) -> int:
        return len(self._chunks)

    def check_writable(self) -> None:
        if self.is_void:
            return
        if self._is_reset or self.is_unread:
            raise trio.BrokenResourceError(os.strerror(errno.ECONNRESET))
        if self._is_ended:
            raise trio.ClosedResourceError("closed here")

    @property
    def is_over(self) -> bool:
        return self._is_ended

    @property
    def _is_held(self) -> bool:
        """Nothing arrives for now."""
        return self._network.is_cut(self.source.host, self.target.host)

    @property
    def next_arrival_s(self) -> float:
        """When to look again if nothing changes before."""
        return math.inf if self._is_held or not self._chunks else self._chunks[0][0]

    @property
    def is_readable(self) -> bool:
        """`take` has something to say: bytes, the end, or that the connection is lost."""
        if self._is_held or self.is_void:
            return False
        if self._chunks:
            return self._chunks[0][0] <= trio.current_time()
        return self._is_ended

    def take(self, max_bytes: int) -> bytes | None:
        """Bytes that have arrived; b"" at the end of the stream; None if there is nothing yet."""
        if not self.is_readable:
            return None
        if self._chunks:
            return self._take(max_bytes)
        if self._is_reset:
            raise trio.BrokenResourceError(os.strerror(errno.ECONNRESET))
        return b""

    def _take(self, max_bytes: int) -> bytes:
        arrival_s, data = self._chunks.popleft()
        if len(data) > max_bytes:
            self._chunks.appendleft((arrival_s, data[max_bytes:]))
            data = data[:max_bytes]
        self.bytes_on_way -= len(data)
        self.wake()
        return data


class Connection:
    """Two pipes between two processes; numbered over the whole run."""

    def __init__(self, network: SimNetwork, number: int, client: Process, server: Process) -> None:
        self.number = number
        self.client = client
        self.server = server
        self.to_server = Pipe(network, client, server)
        self.to_client = Pipe(network, server, client)

    @property
    def pipes(self) -> tuple[Pipe, Pipe]:
        return (self.to_server, self.to_client)

    def joins(self, host: str) -> bool:
        return host in (self.client.host, self.server.host)

    def __str__(self) -> str:
        return f"connection {self.number} {self.client.name}-{self.server.name}"
