"""The trace of a mount process in the runtime directory: how others learn how it ended.

It is written when the mount answers, and removed when everything is durable. So after the process
has ended, a trace that is still there says that something may be missing, and why.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import msgspec

from dfs.background import runtime_directory

if TYPE_CHECKING:
    from pathlib import Path


class Trace(msgspec.Struct, frozen=True):
    """One mount process."""

    pid: int
    mountpoint: str
    error: str = ""
    """Why not everything became durable; empty while it lives, or if it was killed."""


def trace_path(pid: int) -> Path:
    return runtime_directory() / "mounts" / f"{pid}.json"


def leave_trace(trace: Trace) -> None:
    """Best effort: without a runtime directory only the wording of `dfs umount` suffers."""
    with contextlib.suppress(OSError):
        path = trace_path(trace.pid)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.encode(trace))


def remove_trace(pid: int) -> None:
    with contextlib.suppress(OSError):
        trace_path(pid).unlink()


def read_trace(pid: int) -> Trace | None:
    """What the process left; None if it ended well or never served."""
    try:
        return msgspec.json.decode(trace_path(pid).read_bytes(), type=Trace)
    except (OSError, msgspec.DecodeError):
        return None
