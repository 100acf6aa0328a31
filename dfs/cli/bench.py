"""`dfs bench`."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import tempfile
import time
from typing import TYPE_CHECKING

import click
import msgspec

from dfs.cli.output import json_option, print_json, print_table, progress_line
from dfs.errors import UserError
from dfs.limits import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FILES = 200
SMALL_BYTES = 4096
SYNCED_APPENDS = 50
RANDOM_READS = 500
LARGE_BYTES_DEFAULT = 64
SEED = 1


class Measure(msgspec.Struct, frozen=True):
    """One result."""

    name: str
    per_second: float
    unit: str
    seconds: float


@click.command()
@click.argument("mountpoint")
@click.option(
    "--size",
    "large_mib",
    type=click.IntRange(1, 1 << 20),
    default=LARGE_BYTES_DEFAULT,
    show_default=True,
    help="MiB of the large file.",
)
@json_option
def command(mountpoint: str, large_mib: int, is_json: bool) -> None:
    """Measure a mount (or any directory) quickly: names, small files, synced appends, a large file.

    Works in a directory of its own and removes it.
    """
    if not os.path.isdir(mountpoint):
        raise UserError(f"{mountpoint}: not a directory", exit_status=2)
    with _own_directory(mountpoint) as place, progress_line("measuring") as progress:
        measures = [*_small_files(place, progress), *_large_file(place, large_mib, progress)]
    if is_json:
        print_json({"path": os.path.abspath(mountpoint), "measures": measures})
        return
    rows = [
        [one.name, f"{one.per_second:,.0f}", one.unit, f"{one.seconds:.2f}"] for one in measures
    ]
    print_table(["what", ">per second", "unit", ">seconds"], rows)


@contextlib.contextmanager
def _own_directory(top: str) -> Iterator[str]:
    place = tempfile.mkdtemp(prefix=".dfs-bench-", dir=top)
    try:
        yield place
    finally:
        shutil.rmtree(place)


def _timed(name: str, unit: str, count: float, work: Callable[[], object]) -> Measure:
    assert count > 0
    started_s = time.perf_counter()
    work()
    seconds = max(time.perf_counter() - started_s, 1e-9)
    return Measure(name, count / seconds, unit, seconds)


def _small_files(place: str, progress: Callable[[str], None]) -> list[Measure]:
    paths = [os.path.join(place, f"file{number}") for number in range(FILES)]
    content = random.Random(SEED).randbytes(SMALL_BYTES)
    progress("small files")
    return [
        _timed("create and write 4 KiB", "files", FILES, lambda: _write_all(paths, content)),
        _timed("stat", "files", FILES, lambda: [os.stat(path) for path in paths]),
        _timed("list with attributes", "names", FILES, lambda: _list(place)),
        _timed("open and read 4 KiB", "files", FILES, lambda: _read_all(paths, content)),
        _timed("rename", "files", FILES, lambda: _rename_all(paths)),
        _timed("remove", "files", FILES, lambda: _remove_all(paths)),
        _timed("append 4 KiB and fsync", "writes", SYNCED_APPENDS, lambda: _append(place, content)),
    ]


def _write_all(paths: list[str], content: bytes) -> None:
    for path in paths:
        with open(path, "wb", buffering=0) as file:
            file.write(content)


def _read_all(paths: list[str], content: bytes) -> None:
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            if file.read(len(content) + 1) != content:
                raise UserError(f"{path}: read other bytes than were written")


def _list(place: str) -> None:
    with os.scandir(place) as entries:
        for entry in entries:
            entry.stat(follow_symlinks=False)


def _rename_all(paths: list[str]) -> None:
    for path in paths:
        os.rename(path, path + "r")


def _remove_all(paths: list[str]) -> None:
    for path in paths:
        os.unlink(path + "r")


def _append(place: str, content: bytes) -> None:
    with open(os.path.join(place, "log"), "ab", buffering=0) as file:
        for _ in range(SYNCED_APPENDS):
            file.write(content)
            os.fsync(file.fileno())


def _large_file(place: str, mib: int, progress: Callable[[str], None]) -> list[Measure]:
    path = os.path.join(place, "large")
    pieces = [random.Random(SEED + number).randbytes(MIB) for number in range(min(mib, 16))]
    progress("large file")
    return [
        _timed(
            "write in sequence, with fsync", "MiB", mib, lambda: _write_large(path, pieces, mib)
        ),
        _timed("read in sequence", "MiB", mib, lambda: _read_large(path, pieces, mib)),
        _timed("read 4 KiB at random", "reads", RANDOM_READS, lambda: _read_random(path, mib)),
    ]


def _write_large(path: str, pieces: list[bytes], mib: int) -> None:
    with open(path, "wb", buffering=0) as file:
        for number in range(mib):
            file.write(pieces[number % len(pieces)])
        os.fsync(file.fileno())


def _read_large(path: str, pieces: list[bytes], mib: int) -> None:
    with open(path, "rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        for number in range(mib):
            if file.read(MIB) != pieces[number % len(pieces)]:
                raise UserError(f"{path}: read other bytes than were written (MiB {number})")


def _read_random(path: str, mib: int) -> None:
    chooser = random.Random(SEED)
    with open(path, "rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        for _ in range(RANDOM_READS):
            os.pread(file.fileno(), SMALL_BYTES, chooser.randrange(mib * MIB // SMALL_BYTES) * 4096)
