"""Load with an oracle: writes to a mount and notes, elsewhere, exactly what the filesystem
promised.

Run as a process: `load_worker.py DIRECTORY JOURNAL SEED`, until SIGTERM. Every line of the journal
is written to a local file before an operation starts (intent) and after it returned (promise), so
that a checker knows for each file what must be there, what must not, and what may be either.
Errors are noted with their errno and the work goes on: a killed server or mount must not end it.
"""

from __future__ import annotations

import errno
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

RECORD_BYTES = 64
PATIENCE_S = 90.0


def content_of(seed: int, number: int) -> bytes:
    """What file `number` of worker `seed` holds: 1 byte … 300 KiB, every other one compressible."""
    chooser = random.Random(seed << 32 | number)
    length = int(2 ** chooser.uniform(0, 18.2))
    if number % 2:
        return chooser.randbytes(length)
    line = b"worker %d file %d\n" % (seed, number)
    return (line * (length // len(line) + 1))[:length]


def record_of(seed: int, number: int) -> bytes:
    """Record `number` of worker `seed`'s append-only file: RECORD_BYTES long."""
    return (b"%d:%d;" % (seed, number)).ljust(RECORD_BYTES, b".")


class Worker:
    """One writer: new files with fsync, atomic replaces, synced appends, removals."""

    def __init__(self, directory: Path, journal: Path, seed: int) -> None:
        self.directory = directory
        self.seed = seed
        self.chooser = random.Random(seed)
        self.journal = open(journal, "a", buffering=1)  # noqa: SIM115 - closed by run()
        self.kept: list[int] = []
        self.appended = 0
        self.stopping = False

    def note(self, *words: object) -> None:
        self.journal.write(" ".join(str(word) for word in words) + "\n")

    def run(self) -> None:
        signal.signal(signal.SIGTERM, self._stop)
        self._retry("mkdir", 0, lambda: self.directory.mkdir(exist_ok=True))
        number = 0
        while not self.stopping:
            number += 1
            action = self.chooser.choice((self.create, self.create, self.replace, self.append))
            if len(self.kept) > 40:
                action = self.remove
            try:
                action(number)
            except OSError as error:
                self.note("error", number, errno.errorcode.get(error.errno or 0, "?"), error)
                time.sleep(0.05)
        self.journal.close()

    def _stop(self, *_: object) -> None:
        self.stopping = True

    def _retry(self, what: str, number: int, action: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                action()
                return
            except OSError as error:
                self.note("error", number, errno.errorcode.get(error.errno or 0, "?"), what, error)
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def _write_synced(self, path: Path, content: bytes) -> None:
        with open(path, "wb", buffering=0) as file:
            view = memoryview(content)
            while view:
                step = min(len(view), self.chooser.choice((1000, 65536, 1 << 20)))
                view = view[file.write(view[:step]) :]
            os.fsync(file.fileno())

    def _sync_directory(self) -> None:
        """Of a change of names nothing is promised before (fsync(2))."""
        directory = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def create(self, number: int) -> None:
        self._write_synced(self.directory / f"file{number}", content_of(self.seed, number))
        self.note("synced", number)
        self.kept.append(number)

    def replace(self, number: int) -> None:
        """Write beside, sync, rename: the name must always lead to the whole file."""
        if not self.kept:
            return
        temporary = self.directory / f"tmp{number}"
        self._write_synced(temporary, content_of(self.seed, number))
        os.rename(temporary, self.directory / f"file{number}")
        self._sync_directory()
        self.note("synced", number)
        self.kept.append(number)

    def append(self, number: int) -> None:
        """Append one record; what a failed attempt left behind is cut off first."""
        with open(self.directory / "records", "ab", buffering=0) as file:
            file.truncate(self.appended * RECORD_BYTES)
            file.write(record_of(self.seed, self.appended))
            os.fsync(file.fileno())
        self.appended += 1
        self.note("appended", self.appended)

    def remove(self, number: int) -> None:
        victim = self.kept.pop(self.chooser.randrange(len(self.kept)))
        self.note("removing", victim)
        os.unlink(self.directory / f"file{victim}")
        self._sync_directory()
        self.note("removed", victim)


def check(directory: Path, journal: Path, seed: int) -> tuple[int, list[str]]:
    """(promises checked, broken ones in words): compares a worker's directory with its journal."""
    synced: set[int] = set()
    may_be_gone: set[int] = set()
    removed: set[int] = set()
    appended = 0
    for line in journal.read_text().splitlines():
        kind, number = line.split()[:2]
        if kind == "synced":
            synced.add(int(number))
        elif kind == "removing":
            may_be_gone.add(int(number))
        elif kind == "removed":
            removed.add(int(number))
        elif kind == "appended":
            appended = int(number)
    broken: list[str] = []
    for number in sorted(synced):
        path = directory / f"file{number}"
        if number in removed:
            if os.path.lexists(path):
                broken.append(f"{path.name} was removed and is back")
        elif not path.exists():
            if number not in may_be_gone:
                broken.append(f"{path.name} was synced and is gone")
        elif path.read_bytes() != content_of(seed, number):
            broken.append(f"{path.name} differs from what was synced")
    broken += _check_records(directory / "records", seed, appended)
    return len(synced) + appended, broken


def _check_records(path: Path, seed: int, appended: int) -> list[str]:
    content = path.read_bytes() if path.exists() else b""
    expected = b"".join(record_of(seed, number) for number in range(appended))
    if content[: len(expected)] != expected:
        return [f"records: the first {appended} synced records differ ({len(content)} bytes)"]
    return []


if __name__ == "__main__":
    Worker(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])).run()
