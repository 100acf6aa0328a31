"""Goal: the adapter converts both ways and answers every failure with an errno.

Method: call its handlers as pyfuse3 does, over a client that keeps everything in memory.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import time
from types import SimpleNamespace
from typing import Any

import msgspec
import pyfuse3
import pytest
from pyfuse3 import FUSEError

from dfs.core.namespace.keys import inode_key
from dfs.core.namespace.ops import RENAME_NOREPLACE
from dfs.errors import Disconnected
from dfs.mount.fuse import DOTS, FuseOperations
from dfs.mount.fusetap.session import FuseSession
from dfs.mount.fusetap.wire import InitFlag
from dfs.mount.introspection import MountIdentity
from dfs.types import InodeId
from tests.unit.mount.fusetap.fake_tap import FakeTap
from tests.unit.mount.fusetap.heads import setattr_head, write_head
from tests.unit.mount.memory_client import ROOT_CALLER, START_NS, MemoryClient

ROOT = pyfuse3.ROOT_INODE
AS_ROOT: Any = SimpleNamespace(uid=0, gid=0, pid=0, umask=0o022)
CAPABILITY_VALUE = (2 << 24).to_bytes(4, "little") + bytes(16)
AS_USER: Any = SimpleNamespace(uid=1000, gid=1000, pid=0, umask=0o022)
IDENTITY = MountIdentity(
    pid=1,
    addresses=("unix:/m",),
    cluster_id="c" * 32,
    mountpoint="/mnt",
    source="/cluster",
    subdirectory="/",
    session=7,
    log_path="",
    version="1",
)


@pytest.fixture
def client() -> MemoryClient:
    return MemoryClient()


@pytest.fixture
def operations(client: MemoryClient) -> FuseOperations:
    return FuseOperations(client, IDENTITY)  # type: ignore[arg-type]


def changing(**values: int) -> tuple[Any, Any]:
    """The two arguments of a setattr request that changes these st_ fields."""
    attributes = pyfuse3.EntryAttributes()
    names = ("atime", "mtime", "ctime", "mode", "uid", "gid", "size")
    fields = SimpleNamespace(**{f"update_{name}": False for name in names})
    for name, value in values.items():
        setattr(attributes, f"st_{name}", value)
        setattr(fields, f"update_{name.removesuffix('_ns')}", True)
    return attributes, fields


async def refused(awaitable: Any) -> int:
    """The errno that a handler answers with."""
    with pytest.raises(FUSEError) as caught:
        await awaitable
    return caught.value.errno


class Reply:
    """What the kernel's buffer takes: `room` entries."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room = 0
        self.entries: list[tuple[bytes, int]] = []
        monkeypatch.setattr(pyfuse3, "readdir_reply", self._take)

    def _take(self, token: Any, name: bytes, attributes: Any, next_id: int) -> bool:
        if self.room == 0:
            return False
        self.room -= 1
        self.entries.append((name, next_id))
        return True


async def listing(operations: FuseOperations, node: int, reply: Reply, room: int) -> list[bytes]:
    """All names of a directory, `room` entries at a time."""
    handle = await operations.opendir(node, AS_ROOT)
    position, names = 0, []
    while True:
        reply.room, reply.entries = room, []
        await operations.readdir(handle, position, None)  # type: ignore[arg-type]
        if not reply.entries:
            await operations.releasedir(handle)
            return names
        names += [name for name, _ in reply.entries]
        position = reply.entries[-1][1]


async def test_a_file_is_created_written_and_read(operations: FuseOperations) -> None:
    opened, entry = await operations.create(ROOT, b"f", stat.S_IFREG | 0o640, os.O_RDWR, AS_USER)
    assert not opened.keep_cache
    assert not opened.direct_io
    assert (entry.st_mode, entry.st_uid, entry.st_nlink) == (stat.S_IFREG | 0o640, 1000, 1)
    assert (entry.entry_timeout, entry.attr_timeout) == (0, 0)
    assert await operations.write(opened.fh, 3, b"abc") == 3
    assert await operations.read(opened.fh, 0, 100) == b"\0\0\0abc"
    assert (await operations.getattr(entry.st_ino, AS_ROOT)).st_size == 6
    await operations.flush(opened.fh)
    await operations.fsync(opened.fh, True)
    await operations.release(opened.fh)
    assert (await operations.lookup(ROOT, b"f", AS_ROOT)).st_ino == entry.st_ino


@pytest.fixture(autouse=True)
def _open_root(client: MemoryClient) -> None:
    """Everybody may write into the root directory."""
    key = inode_key(InodeId(1))
    open_root = msgspec.structs.replace(client.view.records[key], mode=stat.S_IFDIR | 0o1777)
    client.view.records[key] = open_root


async def test_every_kind_of_name(operations: FuseOperations) -> None:
    directory = await operations.mkdir(ROOT, b"d", stat.S_IFDIR | 0o755, AS_ROOT)
    fifo = await operations.mknod(directory.st_ino, b"p", stat.S_IFIFO | 0o600, 0, AS_ROOT)
    device = await operations.mknod(
        directory.st_ino, b"c", stat.S_IFCHR | 0o600, os.makedev(5, 300), AS_ROOT
    )
    link = await operations.symlink(directory.st_ino, b"s", b"to/where", AS_ROOT)
    hard = await operations.link(fifo.st_ino, ROOT, b"p2", AS_ROOT)
    assert stat.S_ISFIFO(fifo.st_mode)
    assert device.st_rdev == os.makedev(5, 300)
    assert await operations.readlink(link.st_ino, AS_ROOT) == b"to/where"
    assert (hard.st_ino, hard.st_nlink) == (fifo.st_ino, 2)
    await operations.rename(ROOT, b"p2", directory.st_ino, b"p3", RENAME_NOREPLACE, AS_ROOT)
    await operations.unlink(directory.st_ino, b"p3", AS_ROOT)
    assert await refused(operations.rmdir(ROOT, b"d", AS_ROOT)) == errno.ENOTEMPTY
    for name in (b"p", b"c", b"s"):
        await operations.unlink(directory.st_ino, name, AS_ROOT)
    await operations.rmdir(ROOT, b"d", AS_ROOT)
    assert await refused(operations.lookup(ROOT, b"d", AS_ROOT)) == errno.ENOENT


async def test_truncation_arrives_in_open(operations: FuseOperations) -> None:
    opened, entry = await operations.create(ROOT, b"f", stat.S_IFREG | 0o600, os.O_RDWR, AS_ROOT)
    await operations.write(opened.fh, 0, b"content")
    await operations.open(entry.st_ino, os.O_WRONLY | os.O_TRUNC, AS_ROOT)
    assert (await operations.getattr(entry.st_ino, AS_ROOT)).st_size == 0


async def test_pages_are_kept_only_while_the_content_is_the_same(
    operations: FuseOperations, client: MemoryClient
) -> None:
    opened, entry = await operations.create(ROOT, b"f", stat.S_IFREG | 0o600, os.O_RDWR, AS_ROOT)
    assert (await operations.open(entry.st_ino, os.O_RDONLY, AS_ROOT)).keep_cache
    await operations.write(opened.fh, 0, b"x")
    assert not (await operations.open(entry.st_ino, os.O_RDONLY, AS_ROOT)).keep_cache
    assert (await operations.open(entry.st_ino, os.O_RDONLY, AS_ROOT)).keep_cache
    client.loss_count += 1  # perhaps of this file, and told to a write(2) or to nobody
    assert not (await operations.open(entry.st_ino, os.O_RDONLY, AS_ROOT)).keep_cache
    assert (await operations.open(entry.st_ino, os.O_RDONLY, AS_ROOT)).keep_cache


async def test_setattr_changes_exactly_what_is_asked(operations: FuseOperations) -> None:
    opened, entry = await operations.create(ROOT, b"f", stat.S_IFREG | 0o600, os.O_RDWR, AS_ROOT)
    attributes, fields = changing(mode=stat.S_IFREG | 0o644, size=10, mtime_ns=-5)
    after = await operations.setattr(entry.st_ino, attributes, fields, None, AS_ROOT)
    assert (after.st_mode, after.st_size, after.st_mtime_ns) == (stat.S_IFREG | 0o644, 10, -5)
    assert after.st_atime_ns == entry.st_atime_ns
    attributes, fields = changing(uid=5, gid=6)
    after = await operations.setattr(entry.st_ino, attributes, fields, opened.fh, AS_ROOT)
    assert (after.st_uid, after.st_gid, after.st_size) == (5, 6, 10)


async def test_utime_now_of_someone_who_may_only_write(operations: FuseOperations) -> None:
    """pyfuse3 shows UTIME_NOW as a time: it must not fail for want of ownership."""
    _, entry = await operations.create(ROOT, b"f", stat.S_IFREG | 0o666, os.O_RDWR, AS_ROOT)
    now_ns = time.time_ns()
    attributes, fields = changing(atime_ns=now_ns, mtime_ns=now_ns)
    after = await operations.setattr(entry.st_ino, attributes, fields, None, AS_USER)
    assert after.st_mtime_ns > START_NS
    attributes, fields = changing(atime_ns=12345, mtime_ns=12345)
    changed = operations.setattr(entry.st_ino, attributes, fields, None, AS_USER)
    assert await refused(changed) == errno.EPERM


async def test_a_directory_is_listed_whole_in_pages(
    operations: FuseOperations, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [b"n%03d" % number for number in range(25)]
    for name in names:
        await operations.mknod(ROOT, name, stat.S_IFREG | 0o600, 0, AS_ROOT)
    reply = Reply(monkeypatch)
    for room in (1, 2, 3, 7, 100):
        assert await listing(operations, ROOT, reply, room) == [b".", b"..", *names]


async def test_positions_go_on_after_the_dots(
    operations: FuseOperations, monkeypatch: pytest.MonkeyPatch
) -> None:
    await operations.mknod(ROOT, b"only", stat.S_IFREG | 0o600, 0, AS_ROOT)
    reply = Reply(monkeypatch)
    handle = await operations.opendir(ROOT, AS_ROOT)
    reply.room = 10
    await operations.readdir(handle, 0, None)  # type: ignore[arg-type]
    assert reply.entries == [(b".", 1), (b"..", DOTS), (b"only", DOTS + 1)]
    await operations.fsyncdir(handle, False)


async def test_dots_are_looked_up_by_servers_of_file_handles(operations: FuseOperations) -> None:
    directory = await operations.mkdir(ROOT, b"d", stat.S_IFDIR | 0o755, AS_ROOT)
    assert (await operations.lookup(directory.st_ino, b".", AS_ROOT)).st_ino == directory.st_ino
    assert (await operations.lookup(directory.st_ino, b"..", AS_ROOT)).st_ino == ROOT
    assert (await operations.lookup(ROOT, b"..", AS_ROOT)).st_ino == ROOT
    file = await operations.mknod(ROOT, b"f", stat.S_IFREG | 0o600, 0, AS_ROOT)
    assert (await operations.lookup(file.st_ino, b".", AS_ROOT)).st_ino == file.st_ino
    assert await refused(operations.lookup(file.st_ino, b"..", AS_ROOT)) == errno.ENOTDIR
    assert await refused(operations.lookup(999, b".", AS_ROOT)) == errno.ESTALE


async def test_a_subdirectory_as_root(
    client: MemoryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = await client.mkdir(InodeId(1), b"top", 0o755, ROOT_CALLER)
    operations = FuseOperations(client, IDENTITY, top.ino)  # type: ignore[arg-type]
    inner = await operations.mkdir(ROOT, b"inner", stat.S_IFDIR | 0o755, AS_ROOT)
    assert (await operations.getattr(ROOT, AS_ROOT)).st_ino == ROOT
    assert (await operations.lookup(inner.st_ino, b"..", AS_ROOT)).st_ino == ROOT
    assert (await operations.lookup(ROOT, b"..", AS_ROOT)).st_ino == ROOT
    assert (await client.lookup(top.ino, b"inner")).ino == inner.st_ino
    assert await listing(operations, ROOT, Reply(monkeypatch), 5) == [b".", b"..", b"inner"]


async def test_extended_attributes(operations: FuseOperations) -> None:
    file = await operations.mknod(ROOT, b"f", stat.S_IFREG | 0o600, 0, AS_ROOT)
    await operations.setxattr(file.st_ino, b"user.a", b"1", AS_ROOT)
    assert await operations.getxattr(file.st_ino, b"user.a", AS_ROOT) == b"1"
    assert list(await operations.listxattr(file.st_ino, AS_ROOT)) == [b"user.a"]
    await operations.removexattr(file.st_ino, b"user.a", AS_ROOT)
    assert await refused(operations.getxattr(file.st_ino, b"user.a", AS_ROOT)) == errno.ENODATA


async def test_capabilities_go_before_anybodys_write(operations: FuseOperations) -> None:
    """The kernel asks in the writer's name, who could not remove them (capabilities(7))."""
    file = await operations.mknod(ROOT, b"f", stat.S_IFREG | 0o666, 0, AS_ROOT)
    for name in (b"security.capability", b"security.other"):
        await operations.setxattr(file.st_ino, name, CAPABILITY_VALUE, AS_ROOT)
    await operations.removexattr(file.st_ino, b"security.capability", AS_USER)
    removing = operations.removexattr(file.st_ino, b"security.other", AS_USER)
    assert await refused(removing) == errno.EPERM


async def test_close_asks_nothing_of_a_file_opened_to_read(operations: FuseOperations) -> None:
    created, entry = await operations.create(ROOT, b"f", 0o600, os.O_RDONLY, AS_ROOT)
    flags = {os.O_RDONLY: 1 << 5, os.O_WRONLY: 0, os.O_RDWR: 0}
    assert created.fh >> 56 == flags[os.O_RDONLY]
    for flag, expected in flags.items():
        opened = await operations.open(entry.st_ino, flag, AS_ROOT)
        assert opened.fh >> 56 == expected
        await operations.release(opened.fh)


async def test_the_kernels_word_on_set_id_bits_counts(client: MemoryClient) -> None:
    """Method: a request in whose head it says the contrary of what the uid suggests."""
    tap = FakeTap()
    tap.state["flags_agreed"] = InitFlag.HANDLE_KILLPRIV_V2
    operations = FuseOperations(client, IDENTITY, session=FuseSession(tap, ""))  # type: ignore[arg-type]
    opened, entry = await operations.create(ROOT, b"f", 0o6777, os.O_RDWR, AS_ROOT)

    async def mode_after(head: bytes, action: Any) -> int:
        attributes, fields = changing(mode=stat.S_IFREG | 0o6777)
        await operations.setattr(entry.st_ino, attributes, fields, None, AS_ROOT)
        tap.head = head
        await action()
        return (await operations.getattr(entry.st_ino, AS_ROOT)).st_mode & 0o7777

    attributes, fields = changing(size=1)
    for kills, mode in ((0, 0o6777), (-1, 0o777)):
        who = AS_ROOT if kills else AS_USER
        changes = {
            write_head(kills & 1 << 2): lambda: operations.write(opened.fh, 0, b"x"),
            setattr_head(kills & 1 << 11): lambda who=who: operations.setattr(
                entry.st_ino, attributes, fields, None, who
            ),
        }
        for head, action in changes.items():
            assert await mode_after(head, action) == mode, (kills, head)


async def test_the_virtual_attributes_are_read_only(operations: FuseOperations) -> None:
    value = json.loads(await operations.getxattr(ROOT, b"user.dfs.mount", AS_ROOT))
    assert value["addresses"] == ["unix:/m"]
    assert value["session"] == 7
    assert list(await operations.listxattr(ROOT, AS_ROOT)) == []
    setting = operations.setxattr(ROOT, b"user.dfs.mount", b"", AS_ROOT)
    assert await refused(setting) == errno.EPERM
    assert await refused(operations.removexattr(ROOT, b"user.dfs.info", AS_ROOT)) == errno.EPERM
    assert await refused(operations.getxattr(ROOT, b"user.dfs.other", AS_ROOT)) == errno.ENODATA


async def test_statfs_divides_by_copies(operations: FuseOperations) -> None:
    data = await operations.statfs(AS_ROOT)
    assert data.f_blocks * data.f_frsize == (1 << 40) // 2
    assert data.f_bavail * data.f_frsize == (1 << 39) // 2
    assert data.f_namemax == 255


@pytest.mark.expects_warnings
async def test_failures_are_answered_and_named(
    operations: FuseOperations, client: MemoryClient, caplog: pytest.LogCaptureFixture
) -> None:
    client.failure = Disconnected("cannot reach meta1:7400: no answer")
    assert await refused(operations.getattr(ROOT, AS_ROOT)) == errno.EIO
    assert "meta1:7400" in caplog.text
    client.failure = ValueError("surprise")
    assert await refused(operations.lookup(ROOT, b"x", AS_ROOT)) == errno.EIO
    assert "surprise" in caplog.text
    assert "Traceback" in caplog.text


async def test_a_bug_of_ours_is_not_answered(
    operations: FuseOperations, client: MemoryClient
) -> None:
    client.failure = AssertionError("impossible")
    with pytest.raises(AssertionError):
        await operations.getattr(ROOT, AS_ROOT)


async def test_twenty_thousand_open_files(operations: FuseOperations) -> None:
    file = await operations.mknod(ROOT, b"f", stat.S_IFREG | 0o600, 0, AS_ROOT)
    handles = {(await operations.open(file.st_ino, os.O_RDONLY, AS_ROOT)).fh for _ in range(20_000)}
    assert len(handles) == 20_000
    for handle in handles:
        await operations.release(handle)


async def test_a_removed_directory_is_still_looked_at_until_it_is_forgotten(
    operations: FuseOperations,
) -> None:
    """A process may stand in it."""
    directory = await operations.mkdir(ROOT, b"d", stat.S_IFDIR | 0o755, AS_ROOT)
    await operations.rmdir(ROOT, b"d", AS_ROOT)
    assert (await operations.getattr(directory.st_ino, AS_ROOT)).st_ino == directory.st_ino
    await operations.releasedir(await operations.opendir(directory.st_ino, AS_ROOT))
    await operations.forget([(directory.st_ino, 1), (6, 300)])
    assert await refused(operations.getattr(directory.st_ino, AS_ROOT)) == errno.ESTALE
