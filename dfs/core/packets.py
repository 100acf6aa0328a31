"""Bytes ↔ packets, without I/O: feed what arrived, take packets out until it says "need more".

A packet is a prefix of 12 bytes, a header and a payload (docs/protocol.md):

    "dfs"  version  header_len  payload_len   header: msgpack [id, message]   payload
    3      1        u32 BE      u32 BE        header_len bytes                payload_len bytes

The reader moves between three states:

    state       means                                      leaves when
    buffering   bytes gather in one fixed buffer           a packet is larger than it → body
    body        one large packet fills its own memory      its last byte came → buffering
    refused     the other side sent nonsense               never: every call raises the same error

It knows nothing of sockets, tasks or time.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import TYPE_CHECKING, Annotated, Any, Final, Generic, NamedTuple, TypeAlias, TypeVar

import msgspec

from dfs.core.messages import PROTOCOL_VERSION
from dfs.errors import LocalProtocolError, RemoteProtocolError
from dfs.limits import KIB, PACKET_HEADER_BYTES_MAX, PACKET_PAYLOAD_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence

Buffer: TypeAlias = bytes | bytearray | memoryview
Payload: TypeAlias = "Buffer | Sequence[Buffer]"
"""What a packet carries beside its message: one buffer, or several that travel as one."""

M = TypeVar("M")

MAGIC: Final = b"dfs"
PREFIX: Final = struct.Struct(">3sBII")
BUFFER_BYTES: Final = 64 * KIB
"""Packets up to this size share one buffer; a larger one is received into memory of its own."""
REQUEST_ID_MAX: Final = (1 << 63) - 1
ERROR_TEXT_MAX: Final = 200

_ENCODER: Final = msgspec.msgpack.Encoder()
_RequestId = Annotated[int, msgspec.Meta(ge=0, le=REQUEST_ID_MAX)]

assert PREFIX.size == 12
assert PREFIX.size < BUFFER_BYTES


class Packet(NamedTuple, Generic[M]):
    """One request or reply. `request_id` 0 is about the link itself and answers no request."""

    request_id: int
    message: M
    payload: bytes | memoryview
    """Owned by whoever takes the packet; a memoryview is of memory that nobody else writes to."""


def encode_packet(
    request_id: int,
    message: msgspec.Struct,
    payload: Payload = b"",
    *,
    header_bytes_max: int = PACKET_HEADER_BYTES_MAX,
    payload_bytes_max: int = PACKET_PAYLOAD_BYTES_MAX,
) -> list[Buffer]:
    """The buffers to send, in order: prefix with header, then the payload's own buffers, uncopied.

    Raises LocalProtocolError when the packet is larger than a reader would take.
    """
    assert 0 <= request_id <= REQUEST_ID_MAX
    packet = bytearray(PREFIX.size)
    _ENCODER.encode_into((request_id, message), packet, PREFIX.size)
    header_bytes = len(packet) - PREFIX.size
    parts = _payload_parts(payload)
    payload_bytes = sum(len(part) for part in parts)
    problem = _size_problem(header_bytes, payload_bytes, header_bytes_max, payload_bytes_max)
    if problem:
        raise LocalProtocolError(f"{type(message).__name__} cannot be sent: {problem}")
    PREFIX.pack_into(packet, 0, MAGIC, PROTOCOL_VERSION, header_bytes, payload_bytes)
    assert header_bytes > 0
    return [packet, *parts]


def _payload_parts(payload: Payload) -> list[Buffer]:
    """The payload's buffers that hold anything."""
    buffers = [payload] if isinstance(payload, bytes | bytearray | memoryview) else payload
    parts = [part for part in buffers if len(part) > 0]
    for part in parts:
        assert not isinstance(part, memoryview) or part.nbytes == len(part), "views are of bytes"
    return parts


def _size_problem(
    header_bytes: int, payload_bytes: int, header_bytes_max: int, payload_bytes_max: int
) -> str:
    """Why a packet of this size is not allowed; empty when it is."""
    if header_bytes > header_bytes_max:
        return f"its header has {header_bytes} bytes, {header_bytes_max} are allowed"
    if payload_bytes > payload_bytes_max:
        return f"its payload has {payload_bytes} bytes, {payload_bytes_max} are allowed"
    return ""


class PacketReader(Generic[M]):
    """Takes bytes as they come, cut anywhere, and gives back packets in order.

    Bytes enter by `feed`, or without a copy by `space` and `filled`. `message_type` is the union of
    messages that may come. Memory is bounded by the two caps plus BUFFER_BYTES.
    """

    def __init__(
        self,
        message_type: Any,
        *,
        header_bytes_max: int = PACKET_HEADER_BYTES_MAX,
        payload_bytes_max: int = PACKET_PAYLOAD_BYTES_MAX,
        buffer_bytes: int = BUFFER_BYTES,
    ) -> None:
        assert header_bytes_max > 0
        assert payload_bytes_max >= 0
        assert buffer_bytes > PREFIX.size
        self._decoder = msgspec.msgpack.Decoder(tuple[_RequestId, message_type])
        self._header_bytes_max = header_bytes_max
        self._payload_bytes_max = payload_bytes_max
        self._buffer = memoryview(bytearray(buffer_bytes))
        self._start = 0
        self._end = 0
        """Bytes [start, end) of the buffer are not yet given out."""
        self._body: memoryview | None = None
        """Header and payload of a packet too large for the buffer."""
        self._body_header_bytes = 0
        self._body_filled = 0
        self._fed: deque[memoryview] = deque()
        self._refusal = ""

    @property
    def is_inside_packet(self) -> bool:
        """Part of a packet came: an end of the stream here cuts it short."""
        return self._end > self._start or self._body is not None or bool(self._fed)

    @property
    def is_inside_body(self) -> bool:
        """Part of a large packet came."""
        return self._body is not None

    def feed(self, data: Buffer) -> None:
        """Append received bytes. `data` must not change until `next_packet` returned None."""
        if len(data) > 0:
            self._fed.append(memoryview(data))

    def space(self) -> memoryview:
        """Where to receive next, at least one byte. Only after `next_packet` returned None."""
        assert not self._fed, "take packets until None before receiving more"
        return self._space()

    def filled(self, count: int) -> None:
        """The first `count` bytes of `space()` now hold what was received."""
        assert count > 0
        if self._body is not None:
            self._body_filled += count
            assert self._body_filled <= len(self._body)
        else:
            self._end += count
            assert self._end <= len(self._buffer)

    def next_packet(self) -> Packet[M] | None:
        """The next packet, or None: feed more. Raises RemoteProtocolError, then for ever."""
        if self._refusal:
            raise RemoteProtocolError(self._refusal)
        try:
            while True:
                packet = self._take()
                if packet is not None or not self._fed:
                    return packet
                self._absorb()
        except RemoteProtocolError as error:
            self._refusal = str(error)
            raise

    def _space(self) -> memoryview:
        if self._body is not None:
            space = self._body[self._body_filled :]
        else:
            space = self._buffer[self._end :]
        assert len(space) > 0
        return space

    def _absorb(self) -> None:
        """Move fed bytes to where they belong, as many as fit."""
        data = self._fed.popleft()
        space = self._space()
        count = min(len(space), len(data))
        space[:count] = data[:count]
        self.filled(count)
        if count < len(data):
            self._fed.appendleft(data[count:])

    def _take(self) -> Packet[M] | None:
        if self._body is not None:
            return self._take_body()
        start, have = self._start, self._end - self._start
        assert have >= 0
        if have < PREFIX.size:
            self._check_prefix_so_far(bytes(self._buffer[start : self._end]))
            self._make_room()
            return None
        header_bytes, payload_bytes = self._read_prefix()
        total = PREFIX.size + header_bytes + payload_bytes
        if total > len(self._buffer):
            return self._begin_body(header_bytes, payload_bytes)
        if have < total:
            self._make_room()
            return None
        header_end = start + PREFIX.size + header_bytes
        payload = bytes(self._buffer[header_end : start + total]) if payload_bytes else b""
        self._start += total
        return self._decode(self._buffer[start + PREFIX.size : header_end], payload)

    def _make_room(self) -> None:
        """Make room for the rest of the packet that has begun."""
        start, end = self._start, self._end
        if start > 0:
            self._buffer[: end - start] = self._buffer[start:end]
            self._start, self._end = 0, end - start
        assert self._end < len(self._buffer)

    def _check_prefix_so_far(self, prefix: bytes) -> None:
        """Refuse a stranger at its first bytes: it may be waiting for ours."""
        if not MAGIC.startswith(prefix[:3]):
            raise RemoteProtocolError(f"not a dfs packet: it begins with {prefix[:3]!r}")
        if len(prefix) > 3 and prefix[3] != PROTOCOL_VERSION:
            raise RemoteProtocolError(_version_problem(prefix[3]))

    def _read_prefix(self) -> tuple[int, int]:
        """Lengths of header and payload, within the caps."""
        magic, version, header_bytes, payload_bytes = PREFIX.unpack_from(self._buffer, self._start)
        if magic != MAGIC:
            raise RemoteProtocolError(f"not a dfs packet: it begins with {magic!r}")
        if version != PROTOCOL_VERSION:
            raise RemoteProtocolError(_version_problem(version))
        problem = _size_problem(
            header_bytes, payload_bytes, self._header_bytes_max, self._payload_bytes_max
        )
        if problem:
            raise RemoteProtocolError(f"packet too large: {problem}")
        return header_bytes, payload_bytes

    def _begin_body(self, header_bytes: int, payload_bytes: int) -> Packet[M] | None:
        """Give a large packet memory of its own, so that the rest is received in its place."""
        have = self._buffer[self._start + PREFIX.size : self._end]
        body = memoryview(bytearray(header_bytes + payload_bytes))
        assert len(have) <= len(body)
        body[: len(have)] = have
        self._body, self._body_header_bytes, self._body_filled = body, header_bytes, len(have)
        self._start = self._end = 0
        return self._take_body()

    def _take_body(self) -> Packet[M] | None:
        body = self._body
        assert body is not None
        if self._body_filled < len(body):
            return None
        self._body = None
        assert self._start == self._end
        return self._decode(body[: self._body_header_bytes], body[self._body_header_bytes :])

    def _decode(self, header: memoryview, payload: bytes | memoryview) -> Packet[M]:
        try:
            request_id, message = self._decoder.decode(header)
        except (ValueError, RecursionError) as error:
            # msgspec's own errors are ValueErrors, and so is the one for text that is not UTF-8.
            raise RemoteProtocolError(f"packet makes no sense: {_one_line(error)}") from error
        return Packet(request_id, message, payload)


def _one_line(error: Exception) -> str:
    """The error's text, fit for one line of a log whatever the other side put into it."""
    text = str(error)
    shown = "".join(letter if letter.isprintable() else "?" for letter in text[:ERROR_TEXT_MAX])
    return shown if len(text) <= ERROR_TEXT_MAX else f"{shown}…"


def _version_problem(version: int) -> str:
    """Which side to upgrade."""
    side = "this side" if version > PROTOCOL_VERSION else "the other side"
    return (
        f"the other side speaks protocol {version}, this dfs speaks {PROTOCOL_VERSION}: "
        f"upgrade {side}"
    )
