"""Looks at the stacks of this process for some seconds: the virtual attribute `user.dfs.profile`.

    state    means                                     leaves when
    none     nothing is running, no report yet         start → running
    running  a thread looks every few ms               the time is over → done
    done     the last report is kept                   start → running

The event loop never waits for it. Without a profile it costs nothing: no thread, no hook.
"""

from __future__ import annotations

import errno
import sys
import threading
import time
from typing import TYPE_CHECKING, Final

import msgspec

from dfs.errors import FsError
from dfs.mount.samples import ProfileReport, Samples

if TYPE_CHECKING:
    from collections.abc import Callable

LOOK_EVERY_S: Final = 0.004
SECONDS_MAX: Final = 60
SWITCH_INTERVAL_S: Final = 5e-6
"""While a profile is taken. Whoever waits for the interpreter's lock gets it when its holder waits
for something or, after this, wherever that is. With Python's 5 ms nearly all looks would find the
event loop at its system calls."""


class ProfileState(msgspec.Struct, frozen=True, kw_only=True):
    """What `user.dfs.profile` says."""

    number: int = 0
    """Of the profile begun last, from 1."""
    is_running: bool = False
    seconds: float = 0.0
    """How long that one takes."""
    report: ProfileReport | None = None
    """Once it is over."""


class Profiler:
    """One per process. `has_work` says whether requests are being worked on, from any thread."""

    def __init__(self, has_work: Callable[[], bool]) -> None:
        self._has_work = has_work
        self._thread: threading.Thread | None = None
        self.state = ProfileState()

    def start(self, seconds: float) -> int:
        """Begin, on the event loop's thread. Returns the profile's number. Raises FsError: EBUSY
        while one is running, EINVAL for less than nothing or more than a minute."""
        if not 0 < seconds <= SECONDS_MAX:
            raise FsError(errno.EINVAL)
        if self.state.is_running:
            raise FsError(errno.EBUSY)
        number = self.state.number + 1
        self.state = ProfileState(number=number, is_running=True, seconds=seconds)
        self._thread = threading.Thread(
            target=self._run,
            args=(threading.get_ident(), seconds),
            name="dfs-profiler",
            daemon=True,
        )
        self._thread.start()
        return number

    def wait(self) -> None:
        """Return when no profile is running. Not for the event loop."""
        if self._thread is not None:
            self._thread.join()

    def _run(self, loop_thread: int, seconds: float) -> None:
        report = None
        before_s = sys.getswitchinterval()
        sys.setswitchinterval(min(before_s, SWITCH_INTERVAL_S))
        try:
            report = self._look(loop_thread, seconds)
        finally:
            sys.setswitchinterval(before_s)
            self.state = msgspec.structs.replace(self.state, is_running=False, report=report)

    def _look(self, loop_thread: int, seconds: float) -> ProfileReport:
        samples = Samples()
        own_thread = threading.get_ident()
        started_s, cpu_started_s = time.perf_counter(), time.process_time()
        while (now_s := time.perf_counter()) < started_s + seconds:
            time.sleep(LOOK_EVERY_S)
            has_work = self._has_work()
            frames = sys._current_frames()
            loop = frames.pop(loop_thread, None)
            del frames[own_thread]
            if loop is not None:
                samples.note_loop(loop, has_work=has_work)
            for frame in frames.values():
                samples.note_worker(frame)
            # Frames keep what they have in their variables alive.
            del frames, loop
        return samples.report(seconds=now_s - started_s, cpu_s=time.process_time() - cpu_started_s)
