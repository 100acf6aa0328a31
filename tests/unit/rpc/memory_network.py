"""A network inside the test: streams are trio's memory streams, and every end can be reached."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio
import trio.testing

from dfs.core.packets import Packet, PacketReader, encode_packet
from dfs.environment import Environment

if TYPE_CHECKING:
    from collections.abc import Sequence

    import msgspec


class MemoryListener:
    def __init__(self, network: MemoryNetwork, address: str) -> None:
        self.address = address
        self._network = network
        self._send, self._receive = trio.open_memory_channel[trio.abc.Stream](100)

    async def accept(self) -> trio.abc.Stream:
        return await self._receive.receive()

    async def aclose(self) -> None:
        self._network.listeners.pop(self.address, None)
        await self._receive.aclose()

    def arrive(self, stream: trio.abc.Stream) -> None:
        self._send.send_nowait(stream)


class MemoryNetwork:
    """`connects` counts attempts; `client_ends` is what the clients hold, to be broken at will."""

    def __init__(self) -> None:
        self.listeners: dict[str, MemoryListener] = {}
        self.client_ends: list[Any] = []
        self.aborted: list[Any] = []
        """Of the `client_ends` those whose links are to break, not to end."""
        self.connects = 0
        self.is_black_hole = False

    async def connect(self, address: str) -> trio.abc.Stream:
        self.connects += 1
        if self.is_black_hole:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        if address not in self.listeners:
            raise ConnectionRefusedError(111, "Connection refused")
        client_end, server_end = trio.testing.memory_stream_pair()
        self.client_ends.append(client_end)
        self.listeners[address].arrive(server_end)
        return client_end

    async def listen(self, address: str) -> MemoryListener:
        if address in self.listeners:
            raise OSError(98, "Address already in use")
        listener = self.listeners[address] = MemoryListener(self, address)
        return listener

    def abort(self, stream: trio.abc.Stream) -> None:
        self.aborted.append(stream)


def memory_environment() -> Environment:
    return Environment(network=MemoryNetwork(), run_blocking=trio.to_thread.run_sync)


class Peer:
    """The other end of a stream, driven by the test packet by packet."""

    def __init__(self, stream: trio.abc.Stream, message_type: Any) -> None:
        self.stream = stream
        self._reader: PacketReader[Any] = PacketReader(message_type)

    async def send(self, request_id: int, message: msgspec.Struct, payload: bytes = b"") -> None:
        await self.send_bytes(packet_bytes(request_id, message, payload))

    async def send_bytes(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def receive(self) -> Packet[Any] | None:
        while (packet := self._reader.next_packet()) is None:
            data = await self.stream.receive_some(65536)
            if not data:
                return None
            self._reader.feed(data)
        return packet

    async def receive_many(self, count: int) -> Sequence[Packet[Any]]:
        packets = [await self.receive() for _ in range(count)]
        assert None not in packets
        return [packet for packet in packets if packet is not None]


def packet_bytes(request_id: int, message: msgspec.Struct, payload: bytes = b"") -> bytes:
    return b"".join(bytes(part) for part in encode_packet(request_id, message, payload))
