"""The workloads: each prepares, is timed, and proves afterwards that what it left is right.

A workload is a function of an empty directory and a `Scale`; it yields one `Sample` per row of the
table. Only the part between `Stopwatch` enter and exit is timed.
"""

from __future__ import annotations

import io
import os
import random
import shutil
import sqlite3
import subprocess
import tarfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tools.bench.content import digest, random_bytes, small_tree, text_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MIB = 1 << 20
PAGE = 4096


@dataclass(frozen=True)
class Scale:
    """How much work; `quick` is for a first look and for tests."""

    tree_files: int
    small_files: int
    stream_bytes: int
    random_operations: int
    synced_operations: int
    shared_changes: int
    token_rounds: int

    @classmethod
    def full(cls) -> Scale:
        return cls(6000, 2000, 256 * MIB, 2000, 300, 20, 100)

    @classmethod
    def quick(cls) -> Scale:
        return cls(200, 100, 8 * MIB, 100, 20, 5, 20)


@dataclass(frozen=True)
class Sample:
    """One measured row: `amount` of `unit` in `seconds`."""

    row: str
    unit: str
    amount: float
    seconds: float
    is_less_better: ClassVar[bool] = False

    @property
    def value(self) -> float:
        return self.amount / max(self.seconds, 1e-9)


class Stopwatch:
    """Seconds between entering and leaving."""

    def __enter__(self) -> Stopwatch:
        self._start = time.perf_counter()
        return self

    def __exit__(self, *exc: object) -> None:
        self.seconds = time.perf_counter() - self._start


class ContentError(Exception):
    """A file did not hold what was written: no figure of this run is worth anything."""


def drop_kernel_caches() -> None:
    """Makes the next reads cold for the kernel, where we may (root)."""
    os.sync()
    try:
        with open("/proc/sys/vm/drop_caches", "w") as control:
            control.write("3")
    except OSError:
        return


def small_file_tree(directory: Path, scale: Scale) -> Iterator[Sample]:
    """Extract, walk, read and remove a tree of small files."""
    files = small_tree(scale.tree_files)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for file in files:
            header = tarfile.TarInfo(file.path)
            header.size = len(file.content)
            tar.addfile(header, io.BytesIO(file.content))
    root = directory / "tree"
    root.mkdir()
    with Stopwatch() as watch:
        command = ["tar", "-x", "-C", str(root)]
        subprocess.run(command, input=archive.getvalue(), check=True)
    yield Sample("extract tree", "files/s", len(files), watch.seconds)
    drop_kernel_caches()
    for row in ("walk tree, cold", "walk tree, warm"):
        with Stopwatch() as watch:
            entries = [os.lstat(path) for path in _walk(root)]
        yield Sample(row, "entries/s", len(entries), watch.seconds)
    yield from _read_tree(root, {file.path: digest(file.content) for file in files})
    entry_count = len(list(_walk(root)))
    with Stopwatch() as watch:
        shutil.rmtree(root)
    yield Sample("remove tree", "entries/s", entry_count, watch.seconds)


def _walk(root: Path) -> Iterator[str]:
    for parent, directories, names in os.walk(root):
        for name in directories + names:
            yield os.path.join(parent, name)


def _read_tree(root: Path, digests: dict[str, bytes]) -> Iterator[Sample]:
    for row in ("read tree, cold", "read tree, warm"):
        if row.endswith("cold"):
            drop_kernel_caches()
        contents = {}
        with Stopwatch() as watch:
            for path in digests:
                contents[path] = (root / path).read_bytes()
        if any(digest(contents[path]) != digests[path] for path in digests):
            raise ContentError(f"{row}: content differs under {root}")
        yield Sample(row, "files/s", len(digests), watch.seconds)


def small_operations(directory: Path, scale: Scale) -> Iterator[Sample]:
    """Create, rename, mkdir and unlink, one after the other."""
    count = scale.small_files
    content = text_bytes(7, 1024)
    root = directory / "small"
    root.mkdir()

    def timed(row: str, action: Callable[[int], object]) -> Sample:
        with Stopwatch() as watch:
            for index in range(count):
                action(index)
        return Sample(row, "ops/s", count, watch.seconds)

    yield timed("create 1 KiB", lambda i: (root / f"f{i}").write_bytes(content))
    yield timed("lstat", lambda i: os.lstat(root / f"f{i}"))
    yield timed("lookup of a missing name", lambda i: os.path.lexists(root / f"none{i}"))
    yield timed("open+close", lambda i: os.close(os.open(root / f"f{i}", os.O_RDONLY)))
    yield timed("rename", lambda i: os.rename(root / f"f{i}", root / f"r{i}"))
    for index in range(0, count, max(1, count // 50)):
        if (root / f"r{index}").read_bytes() != content:
            raise ContentError(f"renamed file r{index} differs")
    yield timed("mkdir", lambda i: os.mkdir(root / f"d{i}"))
    yield timed("unlink", lambda i: os.unlink(root / f"r{i}"))
    yield timed("rmdir", lambda i: os.rmdir(root / f"d{i}"))
    if os.listdir(root):
        raise ContentError("names are left after unlink and rmdir")


def streams(directory: Path, scale: Scale) -> Iterator[Sample]:
    """Sequential write (to durable) and read of random data and of text, and the same data
    again."""
    mib = scale.stream_bytes / MIB
    for kind, make in (("random data", random_bytes), ("text", text_bytes)):
        data = _repeat_by_block(make, scale.stream_bytes)
        path = directory / f"stream-{kind[:4]}"
        yield Sample(f"write {kind}", "MiB/s", mib, _write_stream(path, data))
        drop_kernel_caches()
        for row in ("cold", "warm"):
            with Stopwatch() as watch:
                is_equal = _stream_equals(path, data)
            if not is_equal:
                raise ContentError(f"{path} differs")
            yield Sample(f"read {kind}, {row}", "MiB/s", mib, watch.seconds)
    again = directory / "stream-again"
    seconds = _write_stream(again, _repeat_by_block(random_bytes, scale.stream_bytes))
    yield Sample("write the same data again", "MiB/s", mib, seconds)


def _repeat_by_block(make: Callable[[int, int], bytes], length: int) -> list[bytes]:
    """Distinct 1 MiB pieces, made cheaply: each is one of 16 with its number stamped on every
    page."""
    bases = [bytearray(make(seed, MIB)) for seed in range(16)]
    pieces: list[bytes] = []
    for number in range(length // MIB):
        piece = bytearray(bases[number % 16])
        for page in range(0, MIB, PAGE):
            piece[page : page + 8] = number.to_bytes(8, "big")
        pieces.append(bytes(piece))
    return pieces


def _write_stream(path: Path, pieces: list[bytes]) -> float:
    with Stopwatch() as watch, open(path, "wb", buffering=0) as file:
        for piece in pieces:
            file.write(piece)
        os.fsync(file.fileno())
    return watch.seconds


def _stream_equals(path: Path, pieces: list[bytes]) -> bool:
    with open(path, "rb", buffering=0) as file:
        buffer = bytearray(MIB)
        for piece in pieces:
            if file.readinto(buffer) != MIB or buffer != piece:
                return False
        return file.read(1) == b""


def random_access(directory: Path, scale: Scale) -> Iterator[Sample]:
    """4 KiB reads at random places, cold; 4 KiB overwrites, one fsync at the end; synced
    appends."""
    size = max(scale.stream_bytes // 4, MIB)
    path = directory / "random"
    data = bytearray(random_bytes(3, size))
    path.write_bytes(data)
    chooser = random.Random(5)
    offsets = [chooser.randrange(size // PAGE) * PAGE for _ in range(scale.random_operations)]
    drop_kernel_caches()
    with open(path, "r+b", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        with Stopwatch() as watch:
            pages = [os.pread(file.fileno(), PAGE, offset) for offset in offsets]
        yield Sample("random 4 KiB reads, cold", "ops/s", len(offsets), watch.seconds)
        if any(
            page != data[offset : offset + PAGE]
            for page, offset in zip(pages, offsets, strict=True)
        ):
            raise ContentError("a random read returned other bytes")
        with Stopwatch() as watch:
            for number, offset in enumerate(offsets):
                page = number.to_bytes(8, "big") * (PAGE // 8)
                os.pwrite(file.fileno(), page, offset)
                data[offset : offset + PAGE] = page
            os.fsync(file.fileno())
        yield Sample("random 4 KiB writes + fsync", "ops/s", len(offsets), watch.seconds)
    if path.read_bytes() != data:
        raise ContentError("random writes left other bytes")
    yield _synced_appends(directory / "appends", scale.synced_operations)


def _synced_appends(path: Path, count: int) -> Sample:
    page = random_bytes(9, PAGE)
    with open(path, "ab", buffering=0) as file, Stopwatch() as watch:
        for _ in range(count):
            file.write(page)
            os.fsync(file.fileno())
    if path.read_bytes() != page * count:
        raise ContentError("appends differ")
    return Sample("append 4 KiB + fsync", "ops/s", count, watch.seconds)


def git_workload(directory: Path, scale: Scale) -> Iterator[Sample]:
    """init, add, commit and status of a source-like tree."""
    root = directory / "git"
    for file in small_tree(scale.tree_files // 4 or 1, seed=2):
        target = root / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.content)

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"]
        command = ["git", *identity, *arguments]
        return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout

    with Stopwatch() as watch:
        git("init", "-q")
        git("add", ".")
        git("commit", "-q", "-m", "all")
        status = git("status", "--porcelain")
    if status:
        raise ContentError("git status is not clean after a commit")
    git("fsck", "--strict")
    yield Sample("git add+commit+status", "runs/s", 1, watch.seconds)


def sqlite_workload(directory: Path, scale: Scale) -> Iterator[Sample]:
    """One-row transactions with a rollback journal, fully synchronous."""
    count = scale.synced_operations // 3 or 1
    connection = sqlite3.connect(directory / "bench.sqlite", isolation_level=None)
    try:
        connection.execute("pragma synchronous = full")
        connection.execute("create table pages (number integer primary key, content blob)")
        content = random_bytes(4, 400)
        with Stopwatch() as watch:
            for number in range(count):
                connection.execute("insert into pages values (?, ?)", (number, content))
        (verdict,) = connection.execute("pragma integrity_check").fetchone()
        (rows,) = connection.execute("select count(*) from pages").fetchone()
    finally:
        connection.close()
    if verdict != "ok" or rows != count:
        raise ContentError(f"sqlite: {verdict}, {rows} rows of {count}")
    yield Sample("sqlite commits", "ops/s", count, watch.seconds)


WORKLOADS = {
    "tree": small_file_tree,
    "small": small_operations,
    "streams": streams,
    "random": random_access,
    "git": git_workload,
    "sqlite": sqlite_workload,
}
