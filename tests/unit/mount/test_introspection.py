"""Goal: the virtual attributes say what is so, and fit into an attribute's value."""

from __future__ import annotations

import errno
import json
import os
import stat
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from dfs.client.statistics import ClientStatistics
from dfs.config import MountConfig
from dfs.core.namespace.records import Extent
from dfs.errors import FsError
from dfs.limits import XATTR_VALUE_BYTES_MAX
from dfs.mount.fusetap.session import FuseSession
from dfs.mount.introspection import (
    EXTENTS_SHOWN,
    Introspection,
    MountIdentity,
    inode_report,
)
from dfs.mount.profiler import ProfileState
from dfs.mount.statistics import REQUESTS, MountStatistics
from dfs.types import BlockId, ChunkServer, ClusterMap, InodeId, MapEpoch, ServerId
from tests.unit.mount.fusetap.fake_tap import FakeTap
from tests.unit.mount.memory_client import MemoryClient
from tests.unit.mount.test_attributes import file_inode

SERVERS = tuple(
    ChunkServer(ServerId(f"{n:016x}"), f"host{n}:7401", f"rack{n}", 1.0) for n in range(3)
)
MAP = ClusterMap(MapEpoch(4), SERVERS, copies=2, min_copies=1)


def some_extents(count: int) -> list[Extent]:
    return [
        Extent(offset=n << 20, length=1 << 20, block_id=BlockId(n.to_bytes(32, "big")))
        for n in range(count)
    ]


def test_a_report_names_servers_and_is_bounded() -> None:
    client: Any = SimpleNamespace(cluster_map=MAP)
    inline = Extent(offset=0, length=3, inline=b"abc")
    report = inode_report(client, file_inode(size=3, stored_bytes=3), [inline])
    assert report.extents[0].servers == ()
    assert report.is_complete
    many = inode_report(client, file_inode(), some_extents(5000))
    assert (many.extent_count, len(many.extents), many.is_complete) == (5000, EXTENTS_SHOWN, False)
    assert all(len(set(place.servers)) == MAP.copies for place in many.extents)
    assert len(msgspec.json.encode(many)) <= XATTR_VALUE_BYTES_MAX


def test_a_symlink_target_need_not_be_text() -> None:
    client: Any = SimpleNamespace(cluster_map=MAP)
    inode = file_inode(mode=stat.S_IFLNK | 0o777, target=b"\xff/x", size=3)
    assert json.loads(msgspec.json.encode(inode_report(client, inode, [])))


def introspection_of(client: Any, session: FuseSession | None = None) -> Introspection:
    config = MountConfig(addresses=("h:1", "h:2"), mountpoint="/m", source="h:1,h:2")
    return Introspection(client, MountIdentity.of(client, config), session or FuseSession())


async def refusal(introspection: Introspection, name: bytes, uid: int) -> int:
    with pytest.raises(FsError) as caught:
        await introspection.value(InodeId(1), name, uid)
    return caught.value.errno


async def test_the_identity_has_the_present_session() -> None:
    client: Any = MemoryClient()
    introspection = introspection_of(client)
    client.session_id = 99
    for name in (b"user.dfs.mount", b"dfs.mount", b"system.dfs.mount"):
        value = json.loads(await introspection.value(InodeId(1), name, 1000))
        assert value["session"] == 99
        assert value["addresses"] == ["h:1", "h:2"]
    for name in (b"user.dfs.x", b"dfs.", b"dfs.profiles", b"system.dfs.mount.x"):
        assert await refusal(introspection, name, 0) == errno.ENODATA


async def test_anybody_may_read_the_statistics_and_the_question_is_not_among_them() -> None:
    client: Any = MemoryClient()
    client.contents = {InodeId(2): bytearray()}
    introspection = introspection_of(client, FuseSession(FakeTap(), ""))  # type: ignore[arg-type]
    times = REQUESTS.times_of("getxattr")
    before = REQUESTS.in_work_count
    times.started_count += 1
    value = await introspection.value(InodeId(1), b"user.dfs.stats", 1000)
    times.note(0.001)
    found = msgspec.json.decode(value, type=MountStatistics)
    assert found.in_work_count == before == 0
    assert found.requests["getxattr"].in_work_count == 0
    assert found.client == ClientStatistics(dirty_bytes=1)
    assert (found.pid, found.slow_because) == (os.getpid(), "")
    assert found.tap is not None
    assert 0 < found.age_s < 3600
    assert found.cpu_s > 0


async def test_without_the_tap_the_statistics_say_why() -> None:
    introspection = introspection_of(MemoryClient(), FuseSession(None, "no compiler"))
    REQUESTS.times_of("getxattr").started_count += 1
    value = await introspection.value(InodeId(1), b"user.dfs.stats", 0)
    REQUESTS.times_of("getxattr").note(0)
    found = msgspec.json.decode(value, type=MountStatistics)
    assert (found.tap, found.slow_because) == (None, "no compiler")


async def test_a_profile_is_for_root_and_the_owner_one_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    introspection = introspection_of(MemoryClient())
    begun: list[float] = []
    state = ProfileState(number=3, is_running=True, seconds=5)
    monkeypatch.setattr(introspection.profiler, "start", lambda s: begun.append(s) or len(begun))
    introspection.profiler.state = state
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for uid in (0, 1000):
        value = await introspection.value(InodeId(1), b"system.dfs.profile.5", uid)
        assert json.loads(value) == {"number": len(begun)}
        assert len(value) <= 128, "os.getxattr has room for it at the first try"
        value = await introspection.value(InodeId(1), b"system.dfs.profile", uid)
        assert msgspec.json.decode(value, type=ProfileState) == state
    assert begun == [5, 5]
    for name in (b"dfs.profile", b"dfs.profile.5", b"dfs.profile.x"):
        assert await refusal(introspection, name, 1001) == errno.EPERM
    for name in (b"dfs.profile.x", b"dfs.profile.-1", b"dfs.profile.1.5"):
        assert await refusal(introspection, name, 0) == errno.EINVAL
