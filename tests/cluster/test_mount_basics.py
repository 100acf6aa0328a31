"""Goal: what programs expect of a filesystem holds on a real mount, through the kernel.

Method: system calls on the mount of a running cluster; each test works in a directory of its own.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cluster.conftest import Cluster

pytestmark = pytest.mark.cluster

RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
AT_FDCWD = -100
MIB = 1 << 20
NOBODY = 65534


@pytest.fixture
def place(cluster: Cluster, request: pytest.FixtureRequest) -> Path:
    """An own directory on the mount; it goes with the cluster."""
    path = cluster.mountpoint / request.node.name[:60]
    path.mkdir()
    path.chmod(0o777)
    return path


def rename(source: Path, target: Path, flags: int) -> None:
    """renameat2(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(source), os.fsencode(target)
    if libc.renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def as_nobody(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run Python code as a user without privileges; those go after the interpreter has started,
    which that user may not be able to reach."""
    leave = f"import os; os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY}); "
    return subprocess.run(
        [sys.executable, "-c", leave + program, *map(str, arguments)],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )


def assert_errno(number: int, *calls: Callable[[], object]) -> None:
    for call in calls:
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno == number, f"{call}: {caught.value}"


def test_every_type_of_inode(place: Path) -> None:
    os.mkfifo(place / "fifo", 0o600)
    os.mknod(place / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(place / "socket", os.getcwd()))
    os.symlink("to/nowhere", place / "link")
    kinds = {e.name: stat.S_IFMT(e.stat(follow_symlinks=False).st_mode) for e in os.scandir(place)}
    assert kinds == {
        "fifo": stat.S_IFIFO,
        "device": stat.S_IFCHR,
        "socket": stat.S_IFSOCK,
        "link": stat.S_IFLNK,
    }
    assert os.readlink(place / "link") == "to/nowhere"
    assert (place / "device").stat().st_rdev == os.makedev(1, 3)
    (place / "device").write_bytes(b"swallowed by /dev/null")


def test_links_count(place: Path) -> None:
    (place / "a").write_text("x")
    os.link(place / "a", place / "b")
    assert (place / "a").stat().st_nlink == 2
    (place / "sub").mkdir()
    assert place.stat().st_nlink == 3
    os.unlink(place / "a")
    assert (place / "b").stat().st_nlink == 1
    assert (place / "b").read_text() == "x"


def test_an_unlinked_file_lives_while_it_is_open(place: Path) -> None:
    with open(place / "f", "w+b", buffering=0) as file:
        file.write(b"before")
        os.unlink(place / "f")
        file.write(b" after")
        assert os.fstat(file.fileno()).st_nlink == 0
        os.fchmod(file.fileno(), 0o400)
        assert os.fstat(file.fileno()).st_mode & 0o777 == 0o400
        os.ftruncate(file.fileno(), 9)
        file.seek(0)
        assert file.read() == b"before af"
        assert list(place.iterdir()) == []


def test_rename_over_and_its_flags(place: Path) -> None:
    (place / "a").write_text("a")
    (place / "b").write_text("b")
    with pytest.raises(FileExistsError):
        rename(place / "a", place / "b", RENAME_NOREPLACE)
    rename(place / "a", place / "b", RENAME_EXCHANGE)
    assert ((place / "a").read_text(), (place / "b").read_text()) == ("b", "a")
    assert_errno(errno.ENOENT, lambda: rename(place / "a", place / "none", RENAME_EXCHANGE))
    os.rename(place / "a", place / "b")
    assert [(p.name, p.read_text()) for p in place.iterdir()] == [("b", "b")]
    rename(place / "b", place / "c", RENAME_NOREPLACE)
    (place / "d").mkdir()
    assert_errno(errno.EINVAL, lambda: os.rename(place / "d", place / "d" / "in"))
    assert_errno(errno.EISDIR, lambda: os.rename(place / "c", place / "d"))


def test_errors_of_names(place: Path) -> None:
    long = place / ("n" * 256)
    fits = place / ("n" * 255)
    fits.write_text("fits")
    assert_errno(
        errno.ENAMETOOLONG,
        lambda: long.write_text("x"),
        long.mkdir,
        long.stat,
        lambda: os.rename(fits, long),
        lambda: os.symlink("x", long),
        lambda: os.link(fits, long),
    )
    assert_errno(errno.ENOTDIR, lambda: (fits / "below").stat())
    assert_errno(errno.ENOENT, lambda: (place / "none").stat(), lambda: os.unlink(place / "none"))
    (place / "full").mkdir()
    (place / "full" / "x").touch()
    assert_errno(errno.ENOTEMPTY, (place / "full").rmdir)
    assert_errno(errno.EEXIST, (place / "full").mkdir)
    assert_errno(errno.ELOOP, lambda: self_link(place).stat())


def self_link(place: Path) -> Path:
    (place / "loop").symlink_to("loop")
    return place / "loop"


def test_times_to_the_nanosecond(place: Path) -> None:
    path = place / "f"
    path.touch()
    for ns in (-1, 0, 999_999_999, -(10**18) - 7, 5 * 10**18 + 123_456_789):
        os.utime(path, ns=(ns, ns + 1))
        seen = path.stat()
        assert (seen.st_atime_ns, seen.st_mtime_ns) == (ns, ns + 1)
    before = path.stat().st_ctime_ns
    path.chmod(0o600)
    assert path.stat().st_ctime_ns > before


def test_holes_and_sparse_sizes(place: Path) -> None:
    path = place / "sparse"
    with open(path, "wb") as file:
        file.seek(3 * 1024 * MIB)
        file.write(b"end")
    assert path.stat().st_size == 3 * 1024 * MIB + 3
    assert path.stat().st_blocks * 512 < 2 * MIB
    with open(path, "rb") as file:
        assert file.read(MIB) == bytes(MIB)
        file.seek(-5, os.SEEK_END)
        assert file.read() == b"\0\0end"
    os.truncate(path, 10)
    assert path.read_bytes() == bytes(10)


def test_appends_of_two_writers_do_not_overwrite(place: Path) -> None:
    def append(letter: bytes) -> None:
        with open(place / "log", "ab", buffering=0) as file:
            for _ in range(200):
                file.write(letter * 10 + b"\n")

    writers = [threading.Thread(target=append, args=(letter,)) for letter in (b"a", b"b")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    lines = (place / "log").read_bytes().splitlines()
    assert sorted(set(lines)) == [b"a" * 10, b"b" * 10]
    assert len(lines) == 400


def test_mapped_memory(place: Path) -> None:
    path = place / "mapped"
    path.write_bytes(bytes(3 * MIB))
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[MIB : MIB + 4] = b"here"
        mapped[-4:] = b"last"
        mapped.flush()
        with open(path, "rb") as other:
            other.seek(MIB)
            assert other.read(4) == b"here"
        mapped[0:5] = b"first"
    content = path.read_bytes()
    assert (content[:5], content[-4:]) == (b"first", b"last")
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert mapped[MIB : MIB + 4] == b"here"


def test_syncs_succeed(place: Path) -> None:
    with open(place / "f", "wb", buffering=0) as file:
        file.write(b"x" * 100_000)
        os.fsync(file.fileno())
        os.fdatasync(file.fileno())
    directory = os.open(place, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)
    flags = os.O_CREAT | os.O_WRONLY | os.O_SYNC
    descriptor = os.open(place / "sync", flags, 0o600)
    assert os.write(descriptor, b"synced") == 6
    os.close(descriptor)
    os.sync()


def test_direct_io_of_odd_sizes(place: Path) -> None:
    descriptor = os.open(place / "direct", os.O_CREAT | os.O_RDWR | os.O_DIRECT, 0o600)
    try:
        buffer = mmap.mmap(-1, 8192)
        buffer[:] = b"d" * 8192
        assert os.write(descriptor, buffer) == 8192
        assert os.pread(descriptor, 8192, 0) == b"d" * 8192
    finally:
        os.close(descriptor)


def test_a_large_directory_lists_completely(place: Path) -> None:
    """More than one page of every layer, also while entries go."""
    names = {f"entry-{number:05}" for number in range(1100)}
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: (place / name).touch(), names))
        assert {entry.name for entry in os.scandir(place)} == names
        assert set(os.listdir(place)) == names
        listing = subprocess.run(["ls", "-la", place], capture_output=True, text=True, check=True)
        assert len(listing.stdout.splitlines()) == len(names) + 3
        list(pool.map(os.unlink, os.scandir(place)))
    place.rmdir()


def test_attributes_of_users(place: Path) -> None:
    path = place / "f"
    path.touch()
    os.setxattr(path, "user.a", b"1")
    os.setxattr(path, "trusted.t", b"2")
    assert_errno(errno.EEXIST, lambda: os.setxattr(path, "user.a", b"x", os.XATTR_CREATE))
    assert_errno(errno.ENODATA, lambda: os.setxattr(path, "user.b", b"x", os.XATTR_REPLACE))
    os.setxattr(path, "user.big", b"v" * 65536)
    assert os.getxattr(path, "user.big") == b"v" * 65536
    assert set(os.listxattr(path)) == {"user.a", "user.big", "trusted.t"}
    os.removexattr(path, "user.a")
    assert_errno(errno.ENODATA, lambda: os.getxattr(path, "user.a"))
    assert_errno(errno.EPERM, lambda: os.setxattr(path, "user.dfs.mount", b"x"))
    path.chmod(0o644)
    seen = as_nobody("import os,sys; print(os.listxattr(sys.argv[1]))", path)
    assert seen.stdout.strip() == "['user.big']"


def test_sizes_of_the_filesystem(cluster: Cluster) -> None:
    seen = os.statvfs(cluster.mountpoint)
    assert seen.f_namemax == 255
    assert 0 < seen.f_bavail <= seen.f_bfree <= seen.f_blocks
    shown = subprocess.run(
        ["df", "--output=source,target", "-t", "fuse.dfs"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"{cluster.dir} {cluster.mountpoint}" in [
        " ".join(line.split()) for line in shown.stdout.splitlines()
    ]


def test_permissions_are_the_callers(place: Path) -> None:
    secret = place / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    assert "PermissionError" in as_nobody("import sys; open(sys.argv[1])", secret).stderr
    made = as_nobody("import sys; open(sys.argv[1], 'x').close()", place / "theirs")
    assert made.returncode == 0, made.stderr
    assert (place / "theirs").stat().st_uid == NOBODY
    chown = "import os,sys; os.chown(sys.argv[1], 0, 0)"
    assert "PermissionError" in as_nobody(chown, place / "theirs").stderr


def test_utime_now_by_someone_who_may_only_write(place: Path) -> None:
    path = place / "f"
    path.touch()
    path.chmod(0o666)
    os.utime(path, ns=(0, 0))
    touched = as_nobody("import os,sys; os.utime(sys.argv[1])", path)
    assert touched.returncode == 0, touched.stderr
    assert path.stat().st_mtime_ns > 10**18
    refused = as_nobody("import os,sys; os.utime(sys.argv[1], (1, 1))", path)
    assert "PermissionError" in refused.stderr


def test_setgid_directories_and_umask(place: Path) -> None:
    place.chmod(0o2777)
    os.chown(place, 0, 50)
    before = os.umask(0o027)
    try:
        (place / "d").mkdir(0o777)
        (place / "f").touch(0o666)
    finally:
        os.umask(before)
    assert (place / "d").stat().st_mode & 0o7777 == 0o2750
    assert (place / "f").stat().st_mode & 0o7777 == 0o640
    assert (place / "f").stat().st_gid == (place / "d").stat().st_gid == 50


def test_writing_takes_setuid_away(place: Path) -> None:
    path = place / "f"
    path.touch()
    path.chmod(0o6777)
    os.chown(path, NOBODY, NOBODY)
    path.chmod(0o6777)
    written = as_nobody("import sys; open(sys.argv[1], 'ab').write(b'x')", path)
    assert written.returncode == 0, written.stderr
    assert path.stat().st_mode & 0o7777 == 0o777


def test_thousands_of_files_open_at_once(place: Path) -> None:
    program = (
        "import os,resource,sys; resource.setrlimit(resource.RLIMIT_NOFILE, (4000, 4000));"
        "fds=[os.open(sys.argv[1], os.O_RDONLY) for _ in range(3000)];"
        "print(len(fds), os.pread(fds[-1], 10, 0))"
    )
    (place / "f").write_text("open")
    seen = subprocess.run(
        [sys.executable, "-c", program, place / "f"], capture_output=True, text=True, check=True
    )
    assert seen.stdout.strip() == "3000 b'open'"


def test_handles_survive_a_remount(cluster: Cluster, place: Path) -> None:
    """name_to_handle_at(2) and open_by_handle_at(2), as an NFS server uses them."""
    (place / "f").write_text("by handle")
    handle = file_handle(place / "f")
    cluster.remount()
    directory = os.open(cluster.mountpoint, os.O_RDONLY)
    try:
        descriptor = open_by_handle(directory, handle)
        assert os.read(descriptor, 100) == b"by handle"
        os.close(descriptor)
    finally:
        os.close(directory)


def file_handle(path: Path) -> ctypes.Array[ctypes.c_char]:
    libc = ctypes.CDLL(None, use_errno=True)
    handle = ctypes.create_string_buffer((128).to_bytes(4, sys.byteorder) + bytes(132), 136)
    mount_id = ctypes.c_int()
    arguments = AT_FDCWD, os.fsencode(path), handle, ctypes.byref(mount_id), 0
    assert libc.name_to_handle_at(*arguments) == 0, os.strerror(ctypes.get_errno())
    return handle


def open_by_handle(directory: int, handle: ctypes.Array[ctypes.c_char]) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor: int = libc.open_by_handle_at(directory, handle, os.O_RDONLY)
    assert descriptor >= 0, os.strerror(ctypes.get_errno())
    return descriptor


def test_a_removed_working_directory(place: Path) -> None:
    gone = place / "gone"
    gone.mkdir()
    program = (
        "import os,sys; os.chdir(sys.argv[1]); os.rmdir(sys.argv[1]); "
        "print(os.stat('.').st_mode, os.listdir('.')); open('x', 'w')"
    )
    seen = subprocess.run(
        [sys.executable, "-c", program, gone], capture_output=True, text=True, check=False
    )
    assert seen.stdout.endswith("[]\n"), seen.stderr
    assert "FileNotFoundError" in seen.stderr
