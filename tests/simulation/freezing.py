"""Stops tasks where they are, as SIGSTOP stops a process, and lets them go on later.

A task that waits goes on waiting, and whatever wakes it meanwhile (a packet, a timer, a
cancellation) takes effect when it thaws: it is taken out of trio's queue of runnable tasks, and put
back. That queue is a private name of trio's; `test_trio_switches.py` guards it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from trio._core import _run as trio_run

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.lowlevel import Task


class FrozenTasks(trio.abc.Instrument):
    """The tasks that are held back. Made by `freeze_tasks`."""

    def __init__(self, is_frozen: Callable[[Task], bool]) -> None:
        self._is_frozen = is_frozen
        self._runnable = trio_run.GLOBAL_RUN_CONTEXT.runner.runq
        self._held = [task for task in self._runnable if is_frozen(task)]
        for task in self._held:
            self._runnable.remove(task)

    def task_scheduled(self, task: Task) -> None:
        """Trio calls this when it has put a task at the end of its queue."""
        if self._is_frozen(task):
            last = self._runnable.pop()
            assert last is task
            self._held.append(task)

    def thaw(self) -> None:
        """Let them run again, in the order in which they would have."""
        trio.lowlevel.remove_instrument(self)
        self._runnable.extend(self._held)
        self._held.clear()


def freeze_tasks(is_frozen: Callable[[Task], bool]) -> FrozenTasks:
    """From the next turn of trio's loop on, tasks of which `is_frozen` is true do not run."""
    frozen = FrozenTasks(is_frozen)
    trio.lowlevel.add_instrument(frozen)
    return frozen
