"""Goal: real programs work on a mount as on a local disk.

Method: run them on real input and compare with what they do on a local directory; each test leaves
the mount as it found it.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import subprocess
import sys
import sysconfig
import textwrap
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from dfs.client.client import open_client
from dfs.rpc.transport import system_environment
from dfs.types import ROOT, Credentials

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.conftest import Cluster

pytestmark = pytest.mark.cluster

GIB = 1 << 30
ENTRIES_MIN = 400
"""Even a small Python library has more."""
CALLERS = 256
"""Tasks that fill a directory together: their ops travel and become durable together."""


@pytest.fixture
def place(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Path]:
    """An own directory on the mount."""
    path = cluster.mountpoint / request.node.name[:40]
    path.mkdir()
    yield path
    shutil.rmtree(path)


def run(*command: object, cwd: Path | None = None, **environment: str) -> str:
    """Run a program that must succeed; its output."""
    result = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
    return result.stdout


def assert_same_stat(source: Path, copy: Path) -> int:
    """Everything that cp -a keeps is equal below two trees; the number of entries compared."""
    count = 0
    for parent, directories, names in os.walk(source):
        for name in directories + names:
            path = os.path.join(parent, name)
            mine, theirs = os.lstat(path), os.lstat(copy / os.path.relpath(path, source))
            for field in ("st_mode", "st_uid", "st_gid", "st_mtime_ns"):
                assert getattr(mine, field) == getattr(theirs, field), f"{path}: {field}"
            if name in names:
                assert mine.st_size == theirs.st_size, path
            count += 1
    return count


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """The machine's own Python library as it comes, without byte code and libraries for linking."""
    source = Path(sysconfig.get_paths()["stdlib"])
    kept = tmp_path / "library"
    left_out = shutil.ignore_patterns(
        "site-packages", "dist-packages", "test", "__pycache__", "config-*"
    )
    shutil.copytree(source, kept, symlinks=True, ignore=left_out)
    return kept


@pytest.mark.slow
def test_python_library_tree_survives_copy_and_remount(
    cluster: Cluster, place: Path, library: Path
) -> None:
    source, copy = library, place / "library"
    run("cp", "-a", source, copy)
    assert assert_same_stat(source, copy) > ENTRIES_MIN
    run("diff", "-r", "--no-dereference", source, copy)
    cluster.remount()
    assert assert_same_stat(source, copy) > ENTRIES_MIN
    run("diff", "-r", "--no-dereference", source, copy)
    cluster.fsck()


def test_git(place: Path) -> None:
    repository = place / "repository"
    repository.mkdir()

    def git(*words: str, cwd: Path = repository) -> str:
        return run("git", "-c", "user.name=t", "-c", "user.email=t@localhost", *words, cwd=cwd)

    git("init", "-q")
    source = Path(sysconfig.get_paths()["stdlib"])
    for package in ("json", "email", "asyncio"):
        left_out = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source / package, repository / package, ignore=left_out)
    git("add", ".")
    git("commit", "-q", "-m", "first")
    (repository / "json" / "decoder.py").write_text("changed\n")
    git("commit", "-q", "-a", "-m", "second")
    git("fsck", "--strict", "--full")
    git("gc", "-q")
    git("clone", "-q", str(repository), str(place / "clone"))
    assert git("status", "--porcelain", cwd=place / "clone") == ""
    assert (place / "clone" / "json" / "decoder.py").read_text() == "changed\n"


def test_c_program_built_by_make(place: Path) -> None:
    (place / "count.h").write_text("int count(const char *text);\n")
    (place / "count.c").write_text(
        '#include "count.h"\nint count(const char *t) { int n = 0; while (*t++) n++; return n; }\n'
    )
    (place / "main.c").write_text(
        '#include <stdio.h>\n#include "count.h"\n'
        'int main(int c, char **v) { (void)c; printf("%d\\n", count(v[1])); return 0; }\n'
    )
    (place / "Makefile").write_text(
        textwrap.dedent("""\
            program: main.o count.o
            \tcc -o $@ $^
            %.o: %.c count.h
            \tcc -Wall -Werror -c -o $@ $<
            """)
    )
    run("make", cwd=place)
    assert run(place / "program", "seven77").strip() == "7"
    assert "up to date" in run("make", cwd=place)
    os.utime(place / "count.h")
    assert run("make", cwd=place).count("cc -Wall") == 2


def test_sqlite(place: Path) -> None:
    path = place / "database.sqlite"
    for attempt in range(3):
        connection = sqlite3.connect(path)
        with connection:
            connection.execute("create table if not exists t (k integer primary key, v text)")
            connection.executemany(
                "insert into t values (?, ?)",
                ((attempt * 1000 + n, "x" * (n % 700)) for n in range(1000)),
            )
        with connection:
            connection.execute("delete from t where k % 3 = 0")
        with connection:
            connection.execute("update t set v = v || 'y' where k % 5 = 0")
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
        connection.execute("vacuum")
        connection.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("select count(*) from t").fetchone() == (2000,)
    connection.close()


def make_wheel(directory: Path) -> Path:
    """A package as pip installs it, without a build: a wheel is a zip file with these names."""
    path = directory / "greeting-1-py3-none-any.whl"
    files = {
        "greeting/__init__.py": "WORD = 'hello'\n",
        "greeting-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: greeting\nVersion: 1\n",
        "greeting-1.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n",
    }
    record = "greeting-1.dist-info/RECORD"
    files[record] = "".join(f"{name},,\n" for name in (*files, record))
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)
    return path


@pytest.mark.slow
def test_virtual_environment_with_a_package(place: Path, tmp_path: Path) -> None:
    environment = place / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", environment)
    python = environment / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python)
    run(*pip, "install", "--no-index", make_wheel(tmp_path))
    assert run(python, "-c", "import greeting; print(greeting.WORD)").strip() == "hello"
    assert "greeting" in run(*pip, "list", "--format=freeze")


def test_two_gib_file_with_holes(cluster: Cluster, place: Path) -> None:
    path = place / "sparse"
    marks = {0: b"head", GIB - 3: b"across the middle", 2 * GIB - 4: b"tail"}
    with open(path, "wb") as file:
        for offset, mark in marks.items():
            os.pwrite(file.fileno(), mark, offset)
        os.fsync(file.fileno())
    status = path.stat()
    assert status.st_size == 2 * GIB
    assert status.st_blocks * 512 < 64 << 20
    cluster.remount()
    with open(path, "rb") as file:
        for offset, mark in marks.items():
            assert os.pread(file.fileno(), len(mark), offset) == mark
        assert os.pread(file.fileno(), 8192, GIB // 2) == bytes(8192)
        assert os.pread(file.fileno(), 100, 2 * GIB - 2) == b"il"
    os.truncate(path, GIB)
    assert path.stat().st_size == GIB
    with open(path, "rb") as file:
        assert os.pread(file.fileno(), 100, GIB - 3) == b"acr"


async def make_symlinks(address: str, directory: bytes, names: list[str]) -> None:
    """Many at once through a client of its own: one after the other they would take minutes."""
    async with open_client(system_environment(), [address]) as client:
        parent = await client.lookup(ROOT, directory)

        async def make_some(first: int) -> None:
            for name in names[first::CALLERS]:
                await client.symlink(parent.ino, name.encode(), b"nowhere", Credentials(0, 0))

        async with trio.open_nursery() as nursery:
            for first in range(CALLERS):
                nursery.start_soon(make_some, first)


@pytest.mark.slow
def test_a_hundred_thousand_entries(fresh_cluster: Cluster) -> None:
    """In a cluster of its own, which is thrown away: removing them all would take a while again."""
    names = {f"entry-{number:06}" for number in range(100_000)}
    directory = fresh_cluster.mountpoint / "many"
    directory.mkdir()
    trio.run(make_symlinks, fresh_cluster.address, b"many", sorted(names))
    assert set(os.listdir(directory)) == names
    with os.scandir(directory) as entries:
        assert sum(entry.is_symlink() for entry in entries) == len(names)
    with pytest.raises(OSError, match="not empty") as refused:
        directory.rmdir()
    assert refused.value.errno == errno.ENOTEMPTY
    removed: set[str] = set()
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.endswith("00"):
                os.unlink(entry.path)
                removed.add(entry.name)
    assert len(removed) == 1000
    assert set(os.listdir(directory)) == names - removed
    assert fresh_cluster.fsck()["inodes"] == len(names) - len(removed) + 2
