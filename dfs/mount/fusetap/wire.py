"""The part of the kernel's FUSE protocol that pyfuse3 does not bind. Source: linux/fuse.h."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from struct import Struct
from typing import Final


class Opcode(IntEnum):
    """Requests that are looked at."""

    SETATTR = 4
    OPEN = 14
    WRITE = 16
    CREATE = 35


class InitFlag(IntFlag):
    """What kernel and daemon agree on when a mount begins."""

    PARALLEL_DIROPS = 1 << 18
    HANDLE_KILLPRIV = 1 << 19
    CACHE_SYMLINKS = 1 << 23
    HANDLE_KILLPRIV_V2 = 1 << 28


class OpenFlag(IntFlag):
    """What the reply to OPEN, OPENDIR or CREATE says of the handle (FOPEN_…), beyond pyfuse3's."""

    CACHE_DIR = 1 << 3
    NOFLUSH = 1 << 5
    PARALLEL_DIRECT_WRITES = 1 << 6


class Notification(IntEnum):
    """What a daemon tells of its own accord (FUSE_NOTIFY_…), beyond pyfuse3's."""

    INC_EPOCH = 8


IN_HEADER: Final = Struct("=IIQQIIII")
"""len, opcode, unique, nodeid, uid, gid, pid, extension."""

WRITE_FLAGS_OFFSET: Final = 20
WRITE_CACHE: Final = 1 << 0
"""Of the write flags: the kernel writes back pages, for whomever."""
KILL_SUIDGID: Final[dict[int, tuple[int, int]]] = {
    Opcode.SETATTR: (0, 1 << 11),
    Opcode.OPEN: (4, 1 << 0),
    Opcode.WRITE: (WRITE_FLAGS_OFFSET, 1 << 2),
    Opcode.CREATE: (12, 1 << 0),
}
"""Where a request says that its caller takes set-id bits away: offset behind the header, mask."""

_FLAGS_SHIFT = 56
HANDLE_NUMBER_MAX: Final = (1 << _FLAGS_SHIFT) - 1


def handle_with_flags(number: int, flags: OpenFlag) -> int:
    """A handle's number that carries, in its top byte, flags for the reply that announces it.

    The tap copies them from there; without a tap they mean nothing. The kernel uses the whole
    number from then on, so whoever keeps the handle keeps it by the whole number.
    """
    assert 0 <= number <= HANDLE_NUMBER_MAX
    assert 0 <= flags < 1 << 8
    return int(flags) << _FLAGS_SHIFT | number
