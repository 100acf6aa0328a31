"""Reads packets off the simulated wire without touching them: for the trace and for checkers.

One tap listens to one direction of one connection. It knows the packet format and msgpack, and no
message class: what is on the wire is what it shows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from dfs.core.packets import PacketReader

VALUE_TEXT_MAX = 40
LIST_SHOWN_MAX = 4


class SeenPacket(NamedTuple):
    """One packet as it left: the message as plain dicts, lists and values."""

    request_id: int
    kind: str
    message: dict[str, Any]
    payload_bytes: int

    def __str__(self) -> str:
        fields = {name: value for name, value in self.message.items() if name != "type"}
        shown = " ".join(f"{name}={describe(value)}" for name, value in fields.items())
        tail = f" +{self.payload_bytes} B" if self.payload_bytes else ""
        return f"#{self.request_id} {self.kind} {shown}{tail}".rstrip()


class SentPacket(NamedTuple):
    """An event of the trace, put into words only when somebody reads them."""

    target: str
    packet: SeenPacket

    def __str__(self) -> str:
        return f"→ {self.target} {self.packet}"


class PacketTap:
    """Feed it every byte that was sent; get the packets that are complete."""

    def __init__(self) -> None:
        self._reader: PacketReader[dict[str, Any]] = PacketReader(dict[str, Any])

    def feed(self, data: bytes) -> list[SeenPacket]:
        self._reader.feed(data)
        seen = []
        while (packet := self._reader.next_packet()) is not None:
            message = packet.message
            kind = str(message.get("type", "?"))
            seen.append(SeenPacket(packet.request_id, kind, message, len(packet.payload)))
        return seen


def describe(value: Any) -> str:
    """A value of a message in a few characters: ids shortened, long lists counted."""
    if isinstance(value, bytes):
        text = repr(value)[1:] if value.isascii() and len(value) <= VALUE_TEXT_MAX else value.hex()
        return text if len(text) <= VALUE_TEXT_MAX else f"{text[:12]}…{len(value)}B"
    if isinstance(value, dict):
        kind = value.get("type", "")
        inner = " ".join(f"{k}={describe(v)}" for k, v in value.items() if k not in _LEFT_OUT)
        return f"{kind}({inner})"
    if isinstance(value, list):
        shown = ", ".join(describe(item) for item in value[:LIST_SHOWN_MAX])
        more = f", … {len(value)}" if len(value) > LIST_SHOWN_MAX else ""
        return f"[{shown}{more}]"
    text = str(value)
    return text if len(text) <= VALUE_TEXT_MAX else f"{text[:VALUE_TEXT_MAX]}…"


_LEFT_OUT = ("type", "credentials", "now_ns")
