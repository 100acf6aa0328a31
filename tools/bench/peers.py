"""What two processes do at the same time, each on its own mount of one filesystem."""

from __future__ import annotations

import errno
import multiprocessing
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess
    from pathlib import Path

GIVE_UP_S = 5.0
"""Who does not see a change for so long is not waited for."""
START_PATIENCE_S = 60.0
WORK_PATIENCE_S = 600.0
PAUSE_S = 50e-6
RECORDS = 200
RECORD_BYTES = 64


def in_two_processes(*works: Callable[[], object]) -> float:
    """The seconds until both are done; they start together. Raises OSError if one fails.

    Each must be picklable and raise nothing but OSError.
    """
    assert len(works) == 2
    context = multiprocessing.get_context("spawn")
    peers: list[tuple[BaseProcess, Connection]] = []
    try:
        for work in works:
            ours, theirs = context.Pipe()
            process: BaseProcess = context.Process(target=_peer, args=(theirs, work), daemon=True)
            process.start()
            theirs.close()
            peers.append((process, ours))
        for _, pipe in peers:
            _receive(pipe, START_PATIENCE_S)
        started_s = time.perf_counter()
        for _, pipe in peers:
            pipe.send("start")
        for _, pipe in peers:
            if problem := _receive(pipe, WORK_PATIENCE_S):
                raise OSError(problem)
        return time.perf_counter() - started_s
    finally:
        for process, pipe in peers:
            pipe.close()
            process.kill()
            process.join()


def _receive(pipe: Connection, patience_s: float) -> str:
    if not pipe.poll(patience_s):
        raise TimeoutError(errno.ETIMEDOUT, f"a peer says nothing for {patience_s:.0f} s")
    try:
        return str(pipe.recv())
    except EOFError:
        raise OSError("a peer has ended without a word") from None


def _peer(pipe: Connection, work: Callable[[], object]) -> None:
    pipe.send("ready")
    pipe.recv()
    try:
        work()
    except OSError as error:
        pipe.send(str(error))
    else:
        pipe.send("")


def record(writer: str, number: int) -> bytes:
    """A line that says whose it is, of `RECORD_BYTES`."""
    return f"{writer} {number}".encode().ljust(RECORD_BYTES - 1, b".") + b"\n"


def append_records(path: Path, writer: str) -> None:
    """Append `RECORDS` of them through one descriptor (O_APPEND)."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        for number in range(RECORDS):
            written_bytes = os.write(descriptor, record(writer, number))
            if written_bytes != RECORD_BYTES:
                raise OSError(errno.EIO, "a short write")
    finally:
        os.close(descriptor)


def token(turn: int) -> bytes:
    """What the file holds when it is that turn; all of one length."""
    return b"%8d" % turn


def pass_token(path: Path, kind: str, turns: Iterable[int]) -> None:
    """For each turn: wait until the file says so, and make it the next one.

    `kind`: by renaming another file over it, or by overwriting it in place. Raises TimeoutError.
    """
    for turn in turns:
        deadline_s = time.monotonic() + GIVE_UP_S
        while path.read_bytes() != token(turn):
            if time.monotonic() > deadline_s:
                message = f"the token of turn {turn} was not seen for {GIVE_UP_S:.0f} s"
                raise TimeoutError(errno.ETIMEDOUT, message)
            time.sleep(PAUSE_S)  # two that spin would take the cores that the servers need
        _set_token(path, kind, token(turn + 1))


def _set_token(path: Path, kind: str, content: bytes) -> None:
    if kind == "rename":
        replacement = path.with_suffix(f".{os.getpid()}")
        replacement.write_bytes(content)
        replacement.replace(path)
        return
    assert kind == "overwrite"
    with path.open("r+b", buffering=0) as file:
        file.write(content)
