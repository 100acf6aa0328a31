"""Goal: a cluster is called healthy only when everything of it was seen to work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from dfs.cluster import health
from dfs.cluster.directory import ClusterDirectory, ClusterSettings, ClusterState, PartState
from dfs.cluster.health import ask_status, count_up, missing_parts
from dfs.core.messages import ServerStatus, StatusReply
from dfs.mountpoint import MountEntry
from dfs.types import (
    ChunkServer,
    ClusterId,
    ClusterMap,
    MapEpoch,
    ServerId,
    ServerState,
    SpaceUsage,
    VolumeSettings,
)

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

SETTINGS = ClusterSettings(chunk_servers=2, copies=1, mountpoint="/m")
SPACE = SpaceUsage(3, 1, 2)


def reply(*states: ServerState, has_reported: bool = True) -> StatusReply:
    servers = tuple(
        ChunkServer(ServerId(f"{n:016x}"), f"h{n}:1", f"z{n}", 1.0, state)
        for n, state in enumerate(states)
    )
    return StatusReply(
        settings=VolumeSettings(ClusterId("c" * 32), 1 << 20),
        cluster_map=ClusterMap(MapEpoch(1), servers, copies=1, min_copies=1),
        servers=tuple(ServerStatus(s, SPACE if has_reported else None, 0, 0.1) for s in servers),
        sessions=(),
        inode_count=1,
        stored_bytes=0,
        orphan_count=0,
        garbage_count=0,
        version="1",
        uptime_s=1.0,
    )


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    place = ClusterDirectory(tmp_path / "c")
    place.make_run_directories()
    answers: list[StatusReply | None] = [None]

    async def answer(address: str) -> StatusReply | None:
        return answers[0]

    mounts: list[MountEntry | None] = [None]
    monkeypatch.setattr(health, "ask_status", answer)
    monkeypatch.setattr(health, "find_mount", lambda path: mounts[0])
    monkeypatch.setattr(health, "is_stale", lambda path: False)
    assert missing_parts(place, SETTINGS) == ["the metadata server"]
    answers[0] = reply(ServerState.DOWN)
    assert missing_parts(place, SETTINGS) == ["2 chunk servers", "the mount"]
    answers[0] = reply(ServerState.UP, ServerState.UP)
    state = ClusterState(supervisor=1, parts=(PartState(role="mount", pid=5, phase="running"),))
    place.state_path.write_bytes(msgspec.json.encode(state))
    mounts[0] = MountEntry("/m", "tmpfs", "x", "0:1")
    assert missing_parts(place, SETTINGS) == ["the mount"]
    mounts[0] = MountEntry("/m", "fuse.dfs", "x", "0:1")
    assert missing_parts(place, SETTINGS) == []
    dead = ClusterState(supervisor=1, parts=(*state.parts, PartState(role="chunk-0")))
    place.state_path.write_bytes(msgspec.json.encode(dead))
    assert missing_parts(place, SETTINGS) == ["1 chunk server"]
    place.state_path.write_bytes(msgspec.json.encode(state))
    monkeypatch.setattr(health, "is_stale", lambda path: True)
    assert missing_parts(place, SETTINGS) == ["the mount"]


def test_only_those_up_count() -> None:
    assert count_up(reply(ServerState.UP, ServerState.DOWN, ServerState.OUT)) == 1
    assert count_up(reply(ServerState.UP, has_reported=False)) == 0


async def test_nobody_there_is_no_status(tmp_path: Path) -> None:
    assert await ask_status(f"unix:{tmp_path}/none.sock") is None
