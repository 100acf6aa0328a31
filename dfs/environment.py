"""The outside world behind one object: time, randomness, threads and the network.

Product code never calls `time`, `random`, `trio.to_thread` or opens sockets by itself: it is handed
an `Environment`. The simulation hands out another one, so a run is a function of its seed. Timers
use `trio.current_time` and `trio.sleep`, which trio's own mock clock replaces.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import trio

T = TypeVar("T")


class RunBlocking(Protocol):
    """Runs a function that blocks (disk, hashing, engine) away from the event loop."""

    def __call__(self, function: Callable[..., T], /, *args: object) -> Awaitable[T]: ...


class Listener(Protocol):
    """Accepts streams until closed. `address` is where clients reach it (port 0 already
    resolved)."""

    address: str

    async def accept(self) -> trio.abc.Stream: ...

    async def aclose(self) -> None: ...


class Network(Protocol):
    """Where streams come from. Addresses are `HOST:PORT` or `unix:PATH`."""

    async def connect(self, address: str) -> trio.abc.Stream:
        """Open a stream. Raises OSError when nobody listens."""
        ...

    async def listen(self, address: str) -> Listener:
        """Listen. Raises OSError when the address is taken or not ours."""
        ...

    def abort(self, stream: trio.abc.Stream) -> None:
        """Let the other side see, when this stream of ours is closed, that the link broke, and not
        that this process has ended."""
        ...


async def no_fault(point: str) -> None:
    """A fault point outside of the simulation: nothing happens here."""


@dataclass(frozen=True)
class Environment:
    """What a process may know of the world."""

    network: Network
    run_blocking: RunBlocking
    now_ns: Callable[[], int] = time.time_ns
    """Wall clock, nanoseconds since 1970: for time stamps only, never for decisions."""
    random: random.Random = field(default_factory=random.SystemRandom)
    fault_point: Callable[[str], Awaitable[None]] = no_fault
    """Awaited where a step is done and what follows from it is not. The argument says so, in words
    of the form "this is done, that is not": a process that dies, or is slow, just there leaves the
    hardest states behind, and timing alone rarely hits them. The simulation strikes there."""
