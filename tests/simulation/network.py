"""The network of the simulation: streams in memory between hosts, with everything that goes wrong.

Faults injected here: bytes arrive late, cut into pieces at any place; now and then a connection
stalls; `break_connection` loses one with a random part of what was on its way; `cut` stops all
traffic between two hosts until `heal`, after which TCP would deliver what waited. When a process
dies its connections end; when its machine loses power nobody is told: the other side hears nothing
until the machine is back.

A connection is two pipes. Bytes of a pipe arrive in order; different pipes know nothing of each
other. Every direction is read by a `PacketTap`, whose packets go into the trace and to observers.
"""

from __future__ import annotations

import errno
import math
import os
import random
from collections import deque
from typing import TYPE_CHECKING

import trio

from dfs.environment import Listener, Network
from dfs.limits import KIB, MIB
from tests.simulation.packets import PacketTap, SeenPacket

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.process import Process
    from tests.simulation.trace import Trace

PIPE_BYTES_MAX = 512 * KIB
"""What may be on its way in one direction before the sender has to wait."""
LATENCY_S = 0.0003
BYTES_PER_S = 200 * MIB
STALL_CHANCE = 0.003
STALL_S = 0.25
TINY_PIECE_CHANCE = 0.02
ACCEPT_QUEUE_MAX = 128


class _Pipe:
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
        """The other machine has no power: what is sent is gone, and nobody says so."""
        self.is_unread = False
        """The reader closed its end: a further send is answered with a reset."""
        self._changed = trio.Event()
        self._reading: trio.CancelScope | None = None
        """The reader's wait, which ends at its deadline: when the next bytes arrive."""

    @property
    def is_drained(self) -> bool:
        """Nothing that was sent can still arrive."""
        is_read = self.target.is_alive and not self.is_unread
        return not self._chunks or self.is_void or not is_read

    def wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def wait(self) -> None:
        await self._changed.wait()

    async def wait_to_read(self) -> None:
        """Return when bytes have arrived, or something else has changed for the reader."""
        with trio.CancelScope(deadline=self.next_arrival_s) as scope:
            self._reading = scope
            try:
                await self._changed.wait()
            finally:
                self._reading = None

    def put(self, data: bytes) -> None:
        """Send one piece; it arrives behind everything sent before."""
        assert data
        self.bytes_on_way += len(data)
        if self.is_void or self.is_unread:
            return
        arrival_s = trio.current_time() + self._network.delay_s(len(data))
        self._last_arrival_s = max(self._last_arrival_s, arrival_s)
        self._chunks.append((self._last_arrival_s, data))
        if self._reading is not None:
            self._reading.deadline = self.next_arrival_s

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
        if self._is_held:
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
        self.to_server = _Pipe(network, client, server)
        self.to_client = _Pipe(network, server, client)

    @property
    def pipes(self) -> tuple[_Pipe, _Pipe]:
        return (self.to_server, self.to_client)

    def joins(self, host: str) -> bool:
        return host in (self.client.host, self.server.host)

    def __str__(self) -> str:
        return f"connection {self.number} {self.client.name}-{self.server.name}"


class SimStream(trio.abc.Stream):
    """One end of a connection, as product code sees it."""

    def __init__(self, network: SimNetwork, connection: Connection, process: Process) -> None:
        is_client = process is connection.client
        self._network = network
        self._connection = connection
        self._process = process
        self._other = connection.server if is_client else connection.client
        self._out = connection.to_server if is_client else connection.to_client
        self._in = connection.to_client if is_client else connection.to_server
        self._is_closed = False
        self._is_sending = False
        self._is_receiving = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        assert not self._is_sending, "two tasks send on one stream"
        self._is_sending = True
        try:
            await trio.lowlevel.checkpoint()
            await self._send(bytes(data))
        finally:
            self._is_sending = False

    async def _send(self, data: bytes) -> None:
        position = 0
        self._check_open()
        while position < len(data):
            self._out.check_writable()
            room = PIPE_BYTES_MAX - self._out.bytes_on_way
            if room <= 0:
                await self._out.wait()
                self._check_open()
                continue
            size = self._network.piece_bytes(min(room, len(data) - position))
            piece = data[position : position + size]
            position += size
            self._network.tell(self._connection, self._process, self._other, self._out, piece)
            self._out.put(piece)

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        assert not self._is_receiving, "two tasks receive from one stream"
        self._is_receiving = True
        try:
            return await self._receive(max_bytes or 64 * KIB)
        finally:
            self._is_receiving = False

    async def _receive(self, max_bytes: int) -> bytes:
        if self._in.is_readable:
            await trio.lowlevel.checkpoint()
        while True:
            self._check_open()
            data = self._in.take(max_bytes)
            if data is not None:
                return data
            self._network.awaited[self._in] = None
            await self._in.wait_to_read()

    def _check_open(self) -> None:
        self._process.check_alive()
        if self._is_closed:
            raise trio.ClosedResourceError("closed here")

    async def aclose(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            if self._process.is_alive:
                self._out.end()
                self._in.stop_reading()
                self._network.forget_if_over(self._connection)
        await trio.lowlevel.checkpoint()


class SimListener(Listener):
    """Accepts what `connect` brings to its address."""

    def __init__(self, network: SimNetwork, process: Process, address: str) -> None:
        self.address = address
        self.process = process
        self._network = network
        send, receive = trio.open_memory_channel[SimStream](ACCEPT_QUEUE_MAX)
        self._send, self._receive = send, receive

    async def accept(self) -> trio.abc.Stream:
        self.process.check_alive()
        return await self._receive.receive()

    def offer(self, stream: SimStream) -> bool:
        """Whether there was room for one more."""
        try:
            self._send.send_nowait(stream)
        except trio.WouldBlock:
            return False
        return True

    async def aclose(self) -> None:
        self._network.stop_listening(self)
        self._receive.close()
        await trio.lowlevel.checkpoint()


class ProcessNetwork(Network):
    """The network as one process sees it."""

    def __init__(self, network: SimNetwork, process: Process) -> None:
        self._network = network
        self._process = process

    async def connect(self, address: str) -> trio.abc.Stream:
        return await self._network.connect(self._process, address)

    async def listen(self, address: str) -> Listener:
        return self._network.listen(self._process, address)


class SimNetwork:
    """All hosts, connections and listeners of one run."""

    def __init__(self, seed: str, trace: Trace) -> None:
        self._random = random.Random(f"{seed}/network")
        self._trace = trace
        self._listeners: dict[str, SimListener] = {}
        self._connections: dict[int, Connection] = {}
        self._connection_count = 0
        self._cuts: dict[tuple[str, str], None] = {}
        self._dark_hosts: dict[str, None] = {}
        self._healed = trio.Event()
        self.awaited: dict[_Pipe, None] = {}
        """Pipes that somebody waits at, or has waited since the last heal."""
        self._last_words: list[_Pipe] = []
        """What dead processes sent before they died."""
        self.observers: list[Callable[[Connection, Process, SeenPacket], None]] = []
        """Called with every packet as it leaves: (connection, sender, packet)."""

    def of_process(self, process: Process) -> ProcessNetwork:
        return ProcessNetwork(self, process)

    # ------------------------------------------------------------ connecting

    def listen(self, process: Process, address: str) -> SimListener:
        process.check_alive()
        host, _, port = address.rpartition(":")
        if host != process.host:
            raise OSError(errno.EADDRNOTAVAIL, f"cannot listen on {address}: not ours")
        if port == "0":
            address = f"{host}:{20000 + len(self._listeners)}"
        if address in self._listeners:
            raise OSError(errno.EADDRINUSE, f"cannot listen on {address}: in use")
        listener = SimListener(self, process, address)
        self._listeners[address] = listener
        self._trace.note(f"listens on {address}")
        return listener

    def stop_listening(self, listener: SimListener) -> None:
        if self._listeners.get(listener.address) is listener:
            del self._listeners[listener.address]

    async def connect(self, process: Process, address: str) -> SimStream:
        process.check_alive()
        host = address.rpartition(":")[0]
        await trio.sleep(self.delay_s(0))
        while self.is_cut(process.host, host) or host in self._dark_hosts:
            await self.wait_for_heal()
        process.check_alive()
        listener = self._listeners.get(address)
        if listener is None:
            raise OSError(errno.ECONNREFUSED, f"cannot connect to {address}: refused")
        self._connection_count += 1
        connection = Connection(self, self._connection_count, process, listener.process)
        if not listener.offer(SimStream(self, connection, listener.process)):
            raise OSError(errno.ECONNREFUSED, f"cannot connect to {address}: queue full")
        self._connections[connection.number] = connection
        self._trace.note(f"opens {connection}", who=process.name)
        stream = SimStream(self, connection, process)
        await trio.sleep(self.delay_s(0))
        return stream

    def forget_if_over(self, connection: Connection) -> None:
        if all(pipe.is_over for pipe in connection.pipes):
            self._connections.pop(connection.number, None)

    def tell(
        self, connection: Connection, sender: Process, target: Process, pipe: _Pipe, data: bytes
    ) -> None:
        """Show what leaves to the trace and the observers."""
        for packet in pipe.tap.feed(data):
            self._trace.note(f"→ {target.name} {packet}", who=sender.name)
            for observe in self.observers:
                observe(connection, sender, packet)

    # ------------------------------------------------------------ how bytes travel

    def delay_s(self, size: int) -> float:
        delay_s = self._random.expovariate(1 / LATENCY_S) + size / BYTES_PER_S
        if self._random.random() < STALL_CHANCE:
            delay_s += self._random.uniform(0, STALL_S)
        return delay_s

    def piece_bytes(self, size: int) -> int:
        """How many of the next `size` bytes travel together."""
        assert size > 0
        if self._random.random() < TINY_PIECE_CHANCE:
            return self._random.randint(1, min(size, 40))
        return self._random.choice((size, size, min(size, self._random.randint(1, 64 * KIB))))

    # ------------------------------------------------------------ faults

    def connections_between(self, host: str, other: str) -> list[Connection]:
        found = self._connections.values()
        return [each for each in found if each.joins(host) and each.joins(other)]

    def break_connection(self, chooser: random.Random) -> Connection | None:
        """Lose one connection, with a random part of what is on its way. None if there is none."""
        if not self._connections:
            return None
        connection = chooser.choice(list(self._connections.values()))
        self._break(connection, chooser)
        return connection

    def _break(self, connection: Connection, chooser: random.Random) -> None:
        lost = 0
        for pipe in connection.pipes:
            lost += pipe.reset(chooser.randint(0, pipe.chunk_count))
        self._connections.pop(connection.number, None)
        self._trace.note(f"loses {connection}, {lost} bytes", who="network")

    def cut(self, host: str, other: str, *, is_one_way: bool = False) -> None:
        """Let nothing pass from `host` to `other`, nor back unless one-way."""
        self._cuts[host, other] = None
        if not is_one_way:
            self._cuts[other, host] = None
        self._trace.note(f"cuts {host} {'>' if is_one_way else '|'} {other}", who="network")

    def heal(self) -> None:
        """Join everything again."""
        self._cuts.clear()
        self._trace.note("heals", who="network")
        self._healed.set()
        self._healed = trio.Event()
        self.wake_all()

    def wake_all(self) -> None:
        """Whoever waits for bytes looks again."""
        awaited, self.awaited = self.awaited, {}
        for pipe in awaited:
            pipe.wake()

    def is_cut(self, source: str, target: str) -> bool:
        return (source, target) in self._cuts

    async def wait_for_heal(self) -> None:
        await self._healed.wait()

    def drop_process(self, process: Process, *, is_silent: bool) -> None:
        """The process is gone; its kernel says so to the others, or has no power to."""
        self.take_listeners(process)
        if is_silent:
            self._dark_hosts[process.host] = None
        for connection in list(self._connections.values()):
            if process in (connection.client, connection.server):
                self._drop(connection, process, is_silent=is_silent)
        for pipe in self._last_words:
            pipe.wake()

    def take_listeners(self, process: Process) -> None:
        """Nobody reaches the process any more by its addresses; another may listen there."""
        for address, listener in list(self._listeners.items()):
            if listener.process is process:
                del self._listeners[address]

    def _drop(self, connection: Connection, process: Process, *, is_silent: bool) -> None:
        for pipe in connection.pipes:
            if is_silent:
                pipe.darken()
            elif pipe.source is process:
                # What the dead process handed to its kernel may still leave, or be lost by a reset.
                if self._random.random() < 0.5:
                    pipe.end()
                else:
                    pipe.reset(self._random.randint(0, pipe.chunk_count))
                self._last_words.append(pipe)
            else:
                pipe.reset(0)
        if not is_silent:
            self._connections.pop(connection.number, None)

    def power_on(self, host: str) -> None:
        """The machine is back: who still believes in a connection from before learns better."""
        if host not in self._dark_hosts:
            return
        del self._dark_hosts[host]
        self._healed.set()
        self._healed = trio.Event()
        for connection in list(self._connections.values()):
            if connection.joins(host) and any(pipe.is_void for pipe in connection.pipes):
                self._break(connection, self._random)

    async def wait_drained(self, process: Process) -> None:
        """Return once nothing that a dead process sent can still arrive anywhere."""
        assert not process.is_alive
        for pipe in [pipe for pipe in self._last_words if pipe.source is process]:
            while not pipe.is_drained:
                await pipe.wait()
            self._last_words.remove(pipe)
