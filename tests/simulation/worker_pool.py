"""Plays many runs in parallel, in worker processes that live long.

A worker plays one run at a time. One that dies, or takes longer than a run may, is itself a failure
of the run that it played; another takes its place, and the others go on.

    worker      means                          leaves when
    idle        waits for a run                `give` → busy · `end` → ended
    busy        plays one                      its answer arrives → idle · it dies, or its deadline
                                               passes → ended, and its run has failed
    ended       its process is gone            never
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tests.simulation.bugs.verdict import Verdict
from tests.simulation.play import Result, Run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

TOP = Path(__file__).parents[2]
HASH_SEED = "0"
RUN_S_MAX = 180.0
"""Real time after which a run hangs."""
LAST_WORDS_S = 5.0
"""Real time that a worker has to say where it hangs."""
LAST_LINES = 60


def worker_command(bug: str = "") -> list[str]:
    """What starts a worker."""
    return [sys.executable, "-m", "tests.simulation.worker", *([bug] if bug else [])]


def default_worker_count() -> int:
    return len(os.sched_getaffinity(0))


class Worker:
    """One process. Its own session, so that Ctrl-C reaches only the parent, which ends it."""

    def __init__(self, command: Sequence[str]) -> None:
        self.run: Run | None = None
        self.deadline_s = 0.0
        self._started_s = 0.0
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `end`)
        search_path = os.pathsep.join([str(TOP), os.environ.get("PYTHONPATH", "")])
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "PYTHONHASHSEED": HASH_SEED, "PYTHONPATH": search_path},
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout

    def fileno(self) -> int:
        """Readable when the worker has answered, or is dead."""
        return self._output.fileno()

    def give(self, run: Run, run_s_max: float) -> None:
        """Let it play."""
        assert self.run is None
        self.run, self._started_s = run, time.monotonic()
        self.deadline_s = self._started_s + run_s_max
        with suppress(BrokenPipeError):  # it is dead: `answer` will say so
            self._input.write(msgspec.json.encode(run) + b"\n")
            self._input.flush()

    def answer(self) -> Result | None:
        """The result of its run; None when it died instead."""
        line = self._output.readline()
        if not line.endswith(b"\n"):
            return None
        self.run = None
        return msgspec.json.decode(line, type=Result)

    def failure(self, *, is_hanging: bool) -> Result:
        """End it. Returns what is said of the run that it played."""
        assert self.run is not None
        took_s = time.monotonic() - self._started_s
        if is_hanging:
            self._process.send_signal(signal.SIGABRT)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(LAST_WORDS_S)
        status = self._process.poll()
        problem = f"hangs: no end after {took_s:.0f} s" if is_hanging else _cause_text(status)
        self._errors.seek(0)
        words = self._errors.read().decode(errors="replace").splitlines()
        run = self.run
        self.end()
        return Result(
            run,
            problem,
            Verdict("broken", words[-1] if words else problem),
            real_s=took_s,
            details="\n".join(words[-LAST_LINES:]) + "\n",
        )

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for file in (self._output, self._errors, self._input):
            with suppress(BrokenPipeError):
                file.close()


def _cause_text(status: int | None) -> str:
    if status is not None and status < 0:
        return f"the worker died by {signal.Signals(-status).name}"
    return f"the worker ended with status {status}"


class WorkerPool:
    """Up to `count` workers; a context that leaves none behind, however it is left."""

    def __init__(
        self, command: Sequence[str], *, count: int | None = None, run_s_max: float = RUN_S_MAX
    ) -> None:
        self._command = command
        self._count = count or default_worker_count()
        self._run_s_max = run_s_max
        self._workers: list[Worker] = []

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.end()
        self._workers.clear()

    def play(self, runs: Iterable[Run]) -> Iterator[Result]:
        """Results, in the order in which runs end. Left early, what still plays is broken off."""
        waiting = iter(runs)
        try:
            while True:
                self._give_work(waiting)
                busy = [worker for worker in self._workers if worker.run is not None]
                if not busy:
                    return
                yield from self._results(busy)
        finally:
            for worker in [worker for worker in self._workers if worker.run is not None]:
                self._end(worker)

    def _give_work(self, waiting: Iterator[Run]) -> None:
        """Start workers only for what there is to play."""
        idle = [worker for worker in self._workers if worker.run is None]
        while idle or len(self._workers) < self._count:
            run = next(waiting, None)
            if run is None:
                return
            if not idle:
                idle.append(Worker(self._command))
                self._workers += idle
            idle.pop().give(run, self._run_s_max)

    def _results(self, busy: list[Worker]) -> list[Result]:
        """Of those that answer, die or hang first."""
        deadline_s = min(worker.deadline_s for worker in busy)
        with selectors.DefaultSelector() as selector:
            for worker in busy:
                selector.register(worker, selectors.EVENT_READ)
            ready = selector.select(max(0.0, deadline_s - time.monotonic()))
        answered = [worker for worker in busy if any(key.fileobj is worker for key, _ in ready)]
        results = [self._result(worker) for worker in answered]
        if not ready:
            late = [worker for worker in busy if worker.deadline_s <= time.monotonic()]
            results += [self._failure(worker, is_hanging=True) for worker in late]
        return results

    def _result(self, worker: Worker) -> Result:
        return worker.answer() or self._failure(worker, is_hanging=False)

    def _failure(self, worker: Worker, *, is_hanging: bool) -> Result:
        self._workers.remove(worker)
        return worker.failure(is_hanging=is_hanging)

    def _end(self, worker: Worker) -> None:
        self._workers.remove(worker)
        worker.end()
