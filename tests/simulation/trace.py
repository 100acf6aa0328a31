"""What happened in one run, as lines that a person can read and a test can compare byte for byte.

A line is `virtual time, who, what`. Everything that a seed decides ends up here: packets, disk
syncs, commits, kills, the outcome of every operation, and the product's own log.
"""

from __future__ import annotations

import hashlib
import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from pathlib import Path

current_process: ContextVar[str] = ContextVar("current_process", default="world")
"""Name of the simulated process that the running task belongs to."""

TEXT_MAX = 300


class Trace:
    """Grows by one line per event. Owner: the world of one run."""

    def __init__(self) -> None:
        self._events: list[tuple[float, str, object]] = []

    def __len__(self) -> int:
        return len(self._events)

    def note(self, what: object, *, who: str | None = None) -> None:
        """Add an event of `who`, or of the process whose task is running. `what` becomes text when
        somebody looks, so it must not change."""
        name = current_process.get() if who is None else who
        self._events.append((_now_s(), name, what))

    @property
    def lines(self) -> list[str]:
        """One per event so far."""
        return [_line(*event) for event in self._events]

    def digest(self) -> str:
        """Equal digests mean equal traces."""
        return hashlib.sha256("\n".join(self.lines).encode()).hexdigest()[:16]

    def write(self, path: Path) -> None:
        path.write_text("\n".join(self.lines) + "\n")


class TraceHandler(logging.Handler):
    """Puts the product's log lines into the trace, under the process that wrote them."""

    def __init__(self, trace: Trace) -> None:
        super().__init__(logging.DEBUG)
        self._trace = trace

    def emit(self, record: logging.LogRecord) -> None:
        self._trace.note(f"log {record.levelname} {record.name}: {record.getMessage()}")


def _line(time_s: float, who: str, what: object) -> str:
    text = str(what)
    shown = text if len(text) <= TEXT_MAX else f"{text[:TEXT_MAX]}…"
    return f"{time_s:12.6f} {who:<9} {shown}"


def _now_s() -> float:
    try:
        return trio.current_time()
    except RuntimeError:
        return 0.0
