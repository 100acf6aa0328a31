"""Goal: the virtual attributes say what is so, and fit into an attribute's value."""

from __future__ import annotations

import json
import stat
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from dfs.config import MountConfig
from dfs.core.namespace.records import Extent
from dfs.errors import FsError
from dfs.limits import XATTR_VALUE_BYTES_MAX
from dfs.mount.introspection import (
    EXTENTS_SHOWN,
    MountIdentity,
    inode_report,
    virtual_xattr,
)
from dfs.types import BlockId, ChunkServer, ClusterMap, InodeId, MapEpoch, ServerId
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


async def test_the_identity_has_the_present_session() -> None:
    client: Any = MemoryClient()
    config = MountConfig(addresses=("h:1", "h:2"), mountpoint="/m", source="h:1,h:2")
    identity = MountIdentity.of(client, config)
    client.session_id = 99
    for name in (b"user.dfs.mount", b"dfs.mount"):
        value = json.loads(await virtual_xattr(client, identity, InodeId(1), name))
        assert value["session"] == 99
        assert value["addresses"] == ["h:1", "h:2"]
    with pytest.raises(FsError, match="ENODATA"):
        await virtual_xattr(client, identity, InodeId(1), b"user.dfs.x")
