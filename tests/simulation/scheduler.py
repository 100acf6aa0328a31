"""Makes the order in which trio runs its tasks, and its time, a function of a seed.

Private names of trio, of the pinned version; `test_trio_switches.py` guards them. With the switch
on, trio sorts each batch of runnable tasks by their number before it shuffles it with its own
random source, which is seeded here.
"""

from __future__ import annotations

import gc
import heapq
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import trio
from trio._core import _run as trio_run

if TYPE_CHECKING:
    from collections.abc import Iterator

TURNS_BETWEEN_POLLS = 1000
"""Turns of trio's loop between two looks at the outside, which is only asked for Ctrl-C."""
LAST_WORDS_S = 1.0
"""Real time that trio may take to wake itself, as it does when a run ends."""


@contextmanager
def seeded_scheduler(seed: str) -> Iterator[None]:
    """Run trio inside; cyclic garbage is collected before and after, not at some moment within."""
    was_deterministic = trio_run._ALLOW_DETERMINISTIC_SCHEDULING
    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    trio_run._r.seed(seed)
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        trio_run._ALLOW_DETERMINISTIC_SCHEDULING = was_deterministic  # type: ignore[misc]


class VirtualClock(trio.abc.Clock):
    """Stands still while a task can run, and jumps to the next deadline when none can.

    As trio's MockClock, without its looks at the real clock, and jumping within one turn of the
    loop: where trio would sleep until a descriptor or a deadline wakes it, this jumps.
    """

    def __init__(self) -> None:
        self._now_s = 0.0
        self._alarms: list[tuple[float, int, Alarm]] = []
        """A heap: when, in which order they were set, and what rings then."""
        self._alarm_count = 0

    def start_clock(self) -> None:
        """From here on nothing but time wakes a task."""
        runner = trio_run.GLOBAL_RUN_CONTEXT.runner
        runner.io_manager = _JumpingIO(runner, self)  # type: ignore[assignment]

    def set_alarm(self, alarm: Alarm, time_s: float) -> None:
        """Let it ring then, if it has not before."""
        self._alarm_count += 1
        heapq.heappush(self._alarms, (time_s, self._alarm_count, alarm))

    def jump(self, deadline_s: float) -> bool:
        """Go to the next alarm, or to trio's next deadline if that is sooner. False: there is
        neither."""
        if self._alarms:
            deadline_s = min(deadline_s, self._alarms[0][0])
        if deadline_s == math.inf:
            return False
        self._now_s = max(self._now_s, deadline_s)
        while self._alarms and self._alarms[0][0] <= self._now_s:
            heapq.heappop(self._alarms)[2].ring()
        return True

    def current_time(self) -> float:
        return self._now_s

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return max(0.0, deadline - self._now_s)


class Alarm:
    """One wait of one task: it ends when the alarm rings, at a time that was set or before.

    As an Event and a cancel scope with a deadline would, at a fraction of their cost: packets and
    worker threads wait so.
    """

    __slots__ = ("_is_over", "_task")

    def __init__(self) -> None:
        self._task: trio.lowlevel.Task | None = None
        self._is_over = False

    def set(self, time_s: float) -> None:
        """Let it ring then. Only under a VirtualClock."""
        if time_s < math.inf:
            clock = trio_run.GLOBAL_RUN_CONTEXT.runner.clock
            assert isinstance(clock, VirtualClock)
            clock.set_alarm(self, time_s)

    def ring(self) -> None:
        """End the wait now, if it is not over."""
        if not self._is_over and self._task is not None:
            trio.lowlevel.reschedule(self._task)
        self._is_over = True

    async def wait(self, *, is_shielded: bool = False) -> None:
        """Until it rings. Shielded: also when the waiting task is cancelled."""

        def abort(_: object) -> trio.lowlevel.Abort:
            if is_shielded:
                return trio.lowlevel.Abort.FAILED
            self._is_over = True
            return trio.lowlevel.Abort.SUCCEEDED

        assert not self._is_over
        self._task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)


class _JumpingIO:
    """Where trio's loop would sleep, time jumps. No task of a run waits for a descriptor."""

    def __init__(self, runner: trio_run.Runner, clock: VirtualClock) -> None:
        self._runner = runner
        self._clock = clock
        self._real = runner.io_manager
        self._turn = 0

    def get_events(self, timeout_s: float) -> object:
        self._turn += 1
        if self._turn % TURNS_BETWEEN_POLLS == 0:
            return self._real.get_events(0)
        if timeout_s <= 0:
            return ()
        if self._clock.jump(self._runner.deadlines.next_deadline()):
            return ()
        events = self._real.get_events(LAST_WORDS_S)
        assert events, "every task waits, and for no time: a deadlock"
        return events

    def process_events(self, events: Any) -> None:
        if events:
            self._real.process_events(events)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)
