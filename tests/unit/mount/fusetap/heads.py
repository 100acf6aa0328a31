"""Heads of requests, as the kernel writes them."""

from __future__ import annotations

from struct import pack

from dfs.mount.fusetap.wire import IN_HEADER, Opcode


def head(opcode: int, body: bytes, *, uid: int = 0, gid: int = 0, pid: int = 0) -> bytes:
    """Header and fixed part of a request."""
    return IN_HEADER.pack(40 + len(body), opcode, 8, 1, uid, gid, pid, 0) + body


def write_head(write_flags: int, *, uid: int = 0, gid: int = 0) -> bytes:
    return head(Opcode.WRITE, pack("=QQII", 5, 4096, 100, write_flags), uid=uid, gid=gid)


def setattr_head(valid: int, *, uid: int = 0, gid: int = 0) -> bytes:
    return head(Opcode.SETATTR, pack("=IIQQ", valid, 0, 5, 100), uid=uid, gid=gid)


def open_head(open_flags: int, *, uid: int = 0, gid: int = 0) -> bytes:
    return head(Opcode.OPEN, pack("=II", 0o1001, open_flags), uid=uid, gid=gid)


def create_head(open_flags: int) -> bytes:
    return head(Opcode.CREATE, pack("=IIII", 0o1101, 0o644, 0o22, open_flags))
