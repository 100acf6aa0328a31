"""What the head of a request says that pyfuse3 does not pass on.

The head is that of the request read last: whose handler runs, until that handler first awaits.
"""

from __future__ import annotations

import sys

import msgspec

from dfs.mount.fusetap.wire import IN_HEADER, KILL_SUIDGID, WRITE_CACHE, WRITE_FLAGS_OFFSET, Opcode


class Requester(msgspec.Struct, frozen=True):
    """Who made a request; as `pyfuse3.RequestContext`, which writes do not get."""

    uid: int
    gid: int
    pid: int


def requester(head: bytes) -> Requester:
    *_, uid, gid, pid, _extension = IN_HEADER.unpack_from(head)
    return Requester(uid, gid, pid)


def kills_set_id(head: bytes) -> bool | None:
    """Whether the caller lacks CAP_FSETID, so that a change of content takes set-id bits away.

    None if the kernel does not say: pages that it writes back on its own, requests of other kinds.
    Only an OPEN or CREATE with O_TRUNC and a SETATTR with a size mean anything by a false.
    """
    opcode = IN_HEADER.unpack_from(head)[1]
    place = KILL_SUIDGID.get(opcode)
    if place is None:
        return None
    if opcode == Opcode.WRITE and _field(head, WRITE_FLAGS_OFFSET) & WRITE_CACHE:
        return None
    offset, mask = place
    return bool(_field(head, offset) & mask)


def _field(head: bytes, offset: int) -> int:
    """The 32-bit number at `offset` behind the header."""
    start = IN_HEADER.size + offset
    field = head[start : start + 4]
    assert len(field) == 4
    return int.from_bytes(field, sys.byteorder)
