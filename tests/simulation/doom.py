"""Death at a moment within what a process does, which no clock would hit.

| doomed at its n-th | is |
|---|---|
| `operation` | operation of a disk or an engine: between a write and its sync, in a commit |
| `step` | step of any of its tasks: at any await of the product |
| `point` | fault point of the product (`fault_points.py`) |
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from tests.simulation.trace import current_process

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.lowlevel import Task

MOMENTS = {"operation": 40, "step": 1000, "point": 4}
"""What is counted, and how many of it at most pass before death."""


class Doom(trio.abc.Instrument):
    """Counts down for one process."""

    def __init__(self, name: str, moment: str, count: int, strike: Callable[[], None]) -> None:
        assert moment in MOMENTS
        assert count >= 1
        self._name = name
        self._moment = moment
        self._left = count
        self._strike = strike
        self._is_watching = moment == "step"
        if self._is_watching:
            trio.lowlevel.add_instrument(self)

    def count(self, moment: str) -> None:
        """One more of these; the last one strikes, which kills the process."""
        if moment != self._moment or self._left == 0:
            return
        self._left -= 1
        if self._left == 0:
            self.lift()
            self._strike()

    def before_task_step(self, task: Task) -> None:
        if task.context.get(current_process) == self._name:
            self.count("step")

    def lift(self) -> None:
        """Nothing will happen any more."""
        self._left = 0
        if self._is_watching:
            self._is_watching = False
            trio.lowlevel.remove_instrument(self)
