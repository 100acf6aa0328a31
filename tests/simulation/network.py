"""The network of the simulation: streams in memory between hosts, with everything that goes wrong.

Faults injected here: bytes arrive late, cut into pieces at any place; now and then a connection
stalls; `break_connection` loses one with a random part of what was on its way, `lose_silently`
without a word to either end (a half-open link, as a forgetful router makes them); `linger` and
`give_up` lose it for its client only, and what that has sent arrives much later; `cut` stops all
traffic between two hosts until `heal`, after which TCP would deliver what waited; `slow` makes
their link slow. When a process dies its connections end; when its machine loses power
nobody is told: the other side hears nothing until the machine is back.

Bytes of a connection arrive in order, those of different connections in any (`pipes.py`). Every
direction is read by a `PacketTap`, whose packets go into the trace and to observers.
"""

from __future__ import annotations

import errno
import os
import random
from typing import TYPE_CHECKING

import trio

from dfs.environment import Listener, Network
from dfs.limits import KIB, MIB
from tests.simulation.packets import SentPacket
from tests.simulation.pipes import Connection, Pipe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dfs.core.packets import Buffer
    from tests.simulation.packets import SeenPacket
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
        self._is_aborted = False
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
            position += self._put_piece(data[position : position + room])

    def _put_piece(self, data: bytes) -> int:
        """Send the first part of it; returns its size."""
        piece = data[: self._network.piece_bytes(len(data))]
        self._network.tell(self._connection, self._process, self._other, self._out, piece)
        self._out.put(piece)
        return len(piece)

    def write_now(self, buffers: Sequence[Buffer]) -> int:
        """Send what the pipe has room for, without waiting; returns the bytes taken, as writev(2).

        Raises BlockingIOError when there is no room, trio's errors when the stream is not usable.
        """
        assert not self._is_sending, "two tasks send on one stream"
        self._check_open()
        self._out.check_writable()
        room = PIPE_BYTES_MAX - self._out.bytes_on_way
        if room <= 0:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        data = b"".join(bytes(buffer) for buffer in buffers)[:room]
        position = 0
        while position < len(data):
            position += self._put_piece(data[position:])
        return position

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

    def abort(self) -> None:
        """What is on its way still arrives, and then the link is broken."""
        self._is_aborted = True

    async def aclose(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            if self._process.is_alive:
                if self._is_aborted:
                    self._out.reset(self._out.chunk_count)
                else:
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

    def abort(self, stream: trio.abc.Stream) -> None:
        assert isinstance(stream, SimStream)
        stream.abort()


class SimNetwork:
    """All hosts, connections and listeners of one run."""

    def __init__(self, seed: str, trace: Trace) -> None:
        self._random = random.Random(f"{seed}/network")
        self._trace = trace
        self._listeners: dict[str, SimListener] = {}
        self._connections: dict[int, Connection] = {}
        self._connection_count = 0
        self._cuts: dict[tuple[str, str], None] = {}
        self._slow: dict[tuple[str, str], float] = {}
        """Source and target host → mean delay of a piece between them, where it is not usual."""
        self._dark_hosts: dict[str, None] = {}
        self._healed = trio.Event()
        self.awaited: dict[Pipe, None] = {}
        """Pipes that somebody waits at, or has waited since the last heal."""
        self._last_words: list[Pipe] = []
        """What dead processes sent before they died, and what lingers on links given up."""
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
        await trio.sleep(self.delay_s(0, process.host, host))
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
        await trio.sleep(self.delay_s(0, host, process.host))
        return stream

    def forget_if_over(self, connection: Connection) -> None:
        if all(pipe.is_over for pipe in connection.pipes):
            self._connections.pop(connection.number, None)

    def tell(
        self, connection: Connection, sender: Process, target: Process, pipe: Pipe, data: bytes
    ) -> None:
        """Show what leaves to the trace and the observers."""
        for packet in pipe.tap.feed(data):
            self._trace.note(SentPacket(target.name, packet), who=sender.name)
            for observe in self.observers:
                observe(connection, sender, packet)

    # ------------------------------------------------------------ how bytes travel

    def delay_s(self, size: int, source: str, target: str) -> float:
        """How long `size` bytes travel between these hosts."""
        latency_s = self._slow.get((source, target), LATENCY_S)
        delay_s = self._random.expovariate(1 / latency_s) + size / BYTES_PER_S
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

    def lose_silently(self, chooser: random.Random) -> None:
        """Lose one connection, and tell neither end: what they send from now on is gone."""
        if not self._connections:
            return
        connection = chooser.choice(list(self._connections.values()))
        for pipe in connection.pipes:
            pipe.darken()
        self._trace.note(f"loses {connection}, and tells nobody", who="network")

    def linger(self, chooser: random.Random, seconds: float) -> Connection | None:
        """Let what the client of one connection sends take so long. None if there is none."""
        if not self._connections:
            return None
        connection = chooser.choice(list(self._connections.values()))
        connection.to_server.linger(trio.current_time() + seconds)
        self._trace.note(f"delays requests on {connection} by {seconds:.3f} s", who="network")
        return connection

    def give_up(self, connection: Connection) -> None:
        """Tell the client of a connection that it is lost. What it has sent still arrives."""
        if self._connections.pop(connection.number, None) is None:
            return
        connection.to_client.reset(0)
        connection.to_server.reset(connection.to_server.chunk_count)
        self._last_words.append(connection.to_server)
        self._trace.note(f"loses {connection}, requests linger", who="network")

    def slow(self, host: str, other: str, latency_s: float | None) -> None:
        """Let every piece between two hosts take about this long; None: as usual."""
        if latency_s is None:
            self._slow.pop((host, other), None)
            self._slow.pop((other, host), None)
            return
        self._slow[host, other] = self._slow[other, host] = latency_s
        self._trace.note(f"{host} | {other} is slow: {latency_s:.3f} s", who="network")

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
        if not is_silent and any(pipe.is_void for pipe in connection.pipes):
            # Half open: what the dead process's kernel says of it does not arrive either.
            self._connections.pop(connection.number, None)
            return
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
