"""Simulated machines and the processes on them.

    process     means                                     leaves when
    running     its tasks run in a scope of its own       main returned → ended · kill → dead
    frozen      SIGSTOP: none of its tasks runs, what     thaw → running · kill → dead
                wakes them waits (`freezing.py`)
    dead        SIGKILL or loss of power hit it: its      never; a restart is a new process on the
                tasks are cancelled at whatever they      same host
                wait for
    ended       main returned or raised                   never

Between the kill and the last clean-up of a cancelled task some product code still runs. A real dead
process does nothing, so everything that reaches the outside (network, disk, engine, threads) goes
through `Process.check_alive`, which raises `Killed` there.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, TypeVar

import trio

from dfs.environment import Environment
from dfs.errors import leaves_of
from tests.simulation.doom import Doom
from tests.simulation.fault_points import FaultPoints
from tests.simulation.freezing import freeze_tasks
from tests.simulation.scheduler import Alarm
from tests.simulation.trace import current_process

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.simulation.freezing import FrozenTasks
    from tests.simulation.network import SimNetwork
    from tests.simulation.trace import Trace

T = TypeVar("T")

WALL_CLOCK_START_NS = 1_700_000_000_000_000_000
THREAD_DELAY_S = 50e-6
"""Mean time until a worker thread starts, and until its result is noticed."""
SLOW_THREAD_CHANCE = 0.01
SLOW_THREAD_S = 0.02


class Killed(BaseException):
    """Ends a task of a simulated process that no longer exists."""


class Process:
    """One process: made by `World.start`, ended by its main, `kill`, or its doom."""

    def __init__(
        self,
        name: str,
        host: str,
        network: SimNetwork,
        seed: str,
        trace: Trace,
        points: FaultPoints | None = None,
    ) -> None:
        self.name = name
        self.host = host
        self.is_alive = True
        self.ended = trio.Event()
        self.failure: BaseException | None = None
        """What main raised while the process was alive: a bug of the product."""
        self._network = network
        self._trace = trace
        self._scope = trio.CancelScope()
        self._frozen: FrozenTasks | None = None
        self._blocking: dict[int, Alarm] = {}
        self._blocking_count = 0
        self._random = random.Random(f"{seed}/{name}/threads")
        self._charged_s = 0.0
        self.clock_offset_ns = 0
        """How far its wall clock is from the right time."""
        self._points = points or FaultPoints(seed)
        self._doom: Doom | None = None
        self.environment = Environment(
            network=network.of_process(self),
            run_blocking=self.run_blocking,
            now_ns=self.now_ns,
            random=random.Random(f"{seed}/{name}/process"),
            fault_point=self.fault_point,
        )

    def now_ns(self) -> int:
        right_ns = WALL_CLOCK_START_NS + round(trio.current_time() * 1_000_000) * 1_000
        return right_ns + self.clock_offset_ns

    async def run(self, main: Callable[[Process], Awaitable[None]]) -> None:
        """Run to the end, whatever ends it. Never raises what the process raised."""
        current_process.set(self.name)
        self._trace.note("starts")
        try:
            with self._scope:
                await main(self)
        except BaseException as error:
            outer, own = _split(error)
            if own is not None and self.is_alive:
                self.failure = own
                self._trace.note(f"ends with {describe_error(own)}")
            if outer is not None:
                raise outer from None
        finally:
            self._end()

    def _end(self) -> None:
        if self.is_alive:
            self._trace.note("ends", who=self.name)
            self._network.drop_process(self, is_silent=False)
        self.is_alive = False
        self.disarm()
        self.ended.set()

    def kill(self, *, is_silent: bool = False) -> None:
        """SIGKILL; when silent, nobody is told that its connections are gone (loss of power)."""
        if not self.is_alive:
            return
        self.is_alive = False
        self._trace.note("is killed", who=self.name)
        self.disarm()
        self.thaw()
        self._network.drop_process(self, is_silent=is_silent)
        self._scope.cancel()
        for alarm in list(self._blocking.values()):
            alarm.ring()

    @property
    def is_frozen(self) -> bool:
        return self._frozen is not None

    def freeze(self) -> None:
        """Let none of its tasks run, until `thaw` or `kill`."""
        assert self.is_alive
        assert self._frozen is None
        self.note("freezes")
        self._frozen = freeze_tasks(lambda task: task.context.get(current_process) == self.name)

    def thaw(self) -> None:
        """Let it go on where it was, believing that no time has passed."""
        if self._frozen is not None:
            self.note("thaws")
            frozen, self._frozen = self._frozen, None
            frozen.thaw()

    def note(self, text: str) -> None:
        """Put a line into the trace."""
        self._trace.note(text, who=self.name)

    def check_alive(self) -> None:
        """Raises Killed in a task of a dead process."""
        if not self.is_alive:
            raise Killed(self.name)

    # ------------------------------------------------------------ worker threads

    async def run_blocking(self, function: Callable[..., T], /, *args: object) -> T:
        """As a worker thread would: cannot be cancelled once begun, takes time, is done at one
        moment in between."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self.check_alive()
        await self._pass_time(self._thread_delay_s())
        self._charged_s = 0.0
        try:
            result = function(*args)
        finally:
            # A function that raised took its time, too.
            charged_s, self._charged_s = self._charged_s, 0.0
            await self._pass_time(charged_s + self._thread_delay_s())
        return result

    async def _pass_time(self, seconds: float) -> None:
        number = self._blocking_count = self._blocking_count + 1
        alarm = self._blocking[number] = Alarm()
        alarm.set(trio.current_time() + seconds)
        await alarm.wait(is_shielded=True)
        del self._blocking[number]
        self.check_alive()

    def _thread_delay_s(self) -> float:
        if self._random.random() < SLOW_THREAD_CHANCE:
            return self._random.uniform(0, SLOW_THREAD_S)
        return self._random.expovariate(1 / THREAD_DELAY_S)

    def charge(self, seconds: float) -> None:
        """What a blocking function does takes this long; its caller waits when it is done."""
        assert seconds >= 0
        self._charged_s += seconds

    # ------------------------------------------------------------ death at a moment within

    def arm(self, moment: str, count: int, strike: Callable[[], None]) -> None:
        """Call `strike`, which kills, at the `count`-th such moment from now (`doom.py`)."""
        self.disarm()
        self._doom = Doom(self.name, moment, count, strike)

    def disarm(self) -> None:
        """Let it live."""
        if self._doom is not None:
            self._doom.lift()
            self._doom = None

    def operation(self) -> None:
        """Disk and engine call this around every operation. Raises Killed when dead."""
        self._pass("operation")

    async def fault_point(self, point: str) -> None:
        """The process has come to a fault point of the product."""
        self._pass("point")
        delay_s = self._points.delay_s(point)
        if delay_s:
            self.note(f"is slow where {point}: {delay_s:.3f} s")
            await trio.sleep(delay_s)
            self.check_alive()

    def _pass(self, moment: str) -> None:
        self.check_alive()
        if self._doom is not None:
            self._doom.count(moment)
            self.check_alive()


def _split(error: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """What something outside of the process asks for (to stop), and what is its own."""
    kinds = (KeyboardInterrupt, trio.Cancelled)
    if isinstance(error, BaseExceptionGroup):
        return error.split(kinds)
    return (error, None) if isinstance(error, kinds) else (None, error)


def describe_error(error: BaseException) -> str:
    """The error in one line; of a group, everything inside."""
    return "; ".join(f"{type(leaf).__name__}: {leaf}" for leaf in leaves_of(error))
