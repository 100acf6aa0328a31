"""The workload of two mounts of one filesystem: how stale is the second, and is anything lost.

One mount changes something and at once, in the same process, the other looks: did it see the old
state, and how long until it sees the new one? Before each change the other mount looks too, so
that whatever it remembers is what it may wrongly answer with. Figures here are better when less.
"""

from __future__ import annotations

import errno
import os
import statistics
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from tools.bench.peers import (
    GIVE_UP_S,
    RECORDS,
    append_records,
    in_two_processes,
    pass_token,
    record,
    token,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tools.bench.workloads import Scale

OLD, NEW = b"old content", b"new content"  # of one length: the size gives nothing away
ABSENT = "absent"
STALE_HANDLE = "stale handle"


@dataclass(frozen=True)
class Figure:
    """One measured row that is no rate: `value` in `unit`."""

    row: str
    unit: str
    value: float
    is_less_better: ClassVar[bool] = True


@dataclass(frozen=True)
class Change:
    """What one mount does and what the other then looks at: `old` before it, `new` after it."""

    make: Callable[[], object]
    look: Callable[[], object]
    old: object
    new: object


def shared(first: Path, second: Path, scale: Scale) -> Iterator[Figure]:
    """`first` and `second` are the same empty directory, seen through two mounts."""
    parts: dict[str, Iterator[Figure]] = {
        name: _staleness(name, prepare, first, second, scale.shared_changes)
        for name, prepare in CHANGES.items()
    }
    parts["appends"] = _lost_appends(first / "appends", second / "appends")
    for kind in ("rename", "overwrite"):
        parts[f"ping-pong by {kind}"] = _ping_pong(kind, first, second, scale.token_rounds)
    yield from _all_parts(parts)


def _all_parts(parts: dict[str, Iterator[Figure]]) -> Iterator[Figure]:
    """The figures of all that do not fail. Raises OSError at the end if some do, naming them."""
    problems: list[str] = []
    for name, figures in parts.items():
        try:
            yield from figures
        except OSError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise OSError("; ".join(problems))


def wait_until_seen(path: Path) -> None:
    """Raises TimeoutError if it does not appear."""
    _wait_for(partial(_looked, lambda: path.stat().st_ino > 0), expected=True)


# ── staleness ────────────────────────────────────────────────────────────────────────────────────


def _staleness(
    name: str,
    prepare: Callable[[Path, Path], AbstractContextManager[Change]],
    first: Path,
    second: Path,
    count: int,
) -> Iterator[Figure]:
    stale_count = 0
    seconds: list[float] = []
    for number in range(count):
        file = f"{name.replace(' ', '-')}-{number}"
        with prepare(first / file, second / file) as change:
            look = partial(_looked, change.look)
            _wait_for(look, expected=change.old)
            change.make()
            is_stale, until_seen_s = _time_until(look, change.new)
        stale_count += is_stale
        seconds.append(until_seen_s)
    yield Figure(f"stale after {name}", "% stale", 100 * stale_count / count)
    yield Figure(f"{name} until seen", "ms", 1000 * statistics.median(seconds))


def _time_until(look: Callable[[], object], new: object) -> tuple[bool, float]:
    """Whether the first look saw something else, and the seconds until one saw the new state.

    No sleep between the looks: it would be part of the figure.
    """
    started_s = time.perf_counter()
    is_stale = is_other = look() != new
    while is_other and time.perf_counter() - started_s < GIVE_UP_S:
        is_other = look() != new
    return is_stale, min(time.perf_counter() - started_s, GIVE_UP_S)


def _wait_for(look: Callable[[], object], expected: object) -> None:
    deadline_s = time.perf_counter() + GIVE_UP_S
    while (seen := look()) != expected:
        if time.perf_counter() > deadline_s:
            message = f"the other mount still shows {seen!r} after {GIVE_UP_S:.0f} s"
            raise TimeoutError(errno.ETIMEDOUT, message)


def _looked(look: Callable[[], object]) -> object:
    """What is seen, where an absent name and a handle that has gone stale are sights too."""
    try:
        return look()
    except FileNotFoundError:
        return ABSENT
    except OSError as error:
        if error.errno == errno.ESTALE:
            return STALE_HANDLE
        raise


@contextmanager
def _create(mine: Path, other: Path) -> Iterator[Change]:
    yield Change(lambda: mine.write_bytes(NEW), other.read_bytes, ABSENT, NEW)


@contextmanager
def _overwrite(mine: Path, other: Path) -> Iterator[Change]:
    mine.write_bytes(OLD)
    yield Change(lambda: _write_in_place(mine), other.read_bytes, OLD, NEW)


@contextmanager
def _overwrite_open(mine: Path, other: Path) -> Iterator[Change]:
    mine.write_bytes(OLD)
    wait_until_seen(other)
    descriptor = os.open(other, os.O_RDONLY)
    try:
        look = partial(os.pread, descriptor, len(NEW) + 1, 0)
        yield Change(lambda: _write_in_place(mine), look, OLD, NEW)
    finally:
        os.close(descriptor)


@contextmanager
def _append(mine: Path, other: Path) -> Iterator[Change]:
    mine.write_bytes(OLD)
    old_bytes, new_bytes = len(OLD), len(OLD) + len(NEW)
    yield Change(lambda: _add(mine), lambda: other.stat().st_size, old_bytes, new_bytes)


@contextmanager
def _replace(mine: Path, other: Path) -> Iterator[Change]:
    mine.write_bytes(OLD)
    replacement = mine.with_suffix(".new")
    replacement.write_bytes(NEW)
    yield Change(lambda: replacement.replace(mine), other.read_bytes, OLD, NEW)


@contextmanager
def _unlink(mine: Path, other: Path) -> Iterator[Change]:
    mine.write_bytes(OLD)
    yield Change(mine.unlink, other.read_bytes, OLD, ABSENT)


def _write_in_place(path: Path) -> None:
    with path.open("r+b", buffering=0) as file:
        file.write(NEW)


def _add(path: Path) -> None:
    with path.open("ab", buffering=0) as file:
        file.write(NEW)


CHANGES: dict[str, Callable[[Path, Path], AbstractContextManager[Change]]] = {
    "create": _create,
    "overwrite": _overwrite,
    "append": _append,
    "replace": _replace,
    "unlink": _unlink,
    "overwrite of an open file": _overwrite_open,
}


# ── two processes ────────────────────────────────────────────────────────────────────────────────


def _lost_appends(mine: Path, other: Path) -> Iterator[Figure]:
    mine.touch()
    wait_until_seen(other)
    in_two_processes(partial(append_records, mine, "a"), partial(append_records, other, "b"))
    expected = {record(writer, number) for writer in "ab" for number in range(RECORDS)}
    # A reader that is merely stale has lost nothing: it is given time.
    deadline_s = time.perf_counter() + GIVE_UP_S
    lost = expected - _records_in(mine)
    while lost and time.perf_counter() < deadline_s:
        lost = expected - _records_in(mine)
    yield Figure("appends of two mounts", "records lost", len(lost))


def _records_in(path: Path) -> set[bytes]:
    return set(path.read_bytes().splitlines(keepends=True))


def _ping_pong(kind: str, first: Path, second: Path, rounds: int) -> Iterator[Figure]:
    mine, other = first / f"token-{kind}", second / f"token-{kind}"
    mine.write_bytes(token(0))
    wait_until_seen(other)
    turns = range(2 * rounds)
    seconds = in_two_processes(
        partial(pass_token, mine, kind, turns[::2]), partial(pass_token, other, kind, turns[1::2])
    )
    yield Figure(f"ping-pong by {kind}", "ms", 1000 * seconds / rounds)
