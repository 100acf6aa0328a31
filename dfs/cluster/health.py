"""Whether a local cluster is well: asked, not assumed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from dfs.cluster.directory import MOUNT_ROLE
from dfs.core.messages import GetStatus, MetaReply, StatusReply
from dfs.errors import DfsError
from dfs.mountpoint import FILESYSTEM_TYPE, find_mount, is_stale
from dfs.rpc.client import RpcClient
from dfs.rpc.transport import system_environment
from dfs.types import ServerState

if TYPE_CHECKING:
    from dfs.cluster.directory import ClusterDirectory, ClusterSettings

STATUS_TIMEOUT_S = 2.0


async def ask_status(address: str) -> StatusReply | None:
    """The metadata server's own view of the cluster; None if it does not answer."""
    client: RpcClient[MetaReply] = RpcClient(system_environment(), address, MetaReply)
    try:
        async with client:
            reply, _ = await client.call(GetStatus(), timeout_s=STATUS_TIMEOUT_S)
    except DfsError:
        return None
    assert isinstance(reply, StatusReply)
    return reply


def count_up(status: StatusReply) -> int:
    """Chunk servers that are up and have reported to this metadata server since it started."""
    return sum(
        one.space is not None and one.server.state is ServerState.UP for one in status.servers
    )


def missing_parts(directory: ClusterDirectory, settings: ClusterSettings) -> list[str]:
    """What a healthy cluster has and this one lacks now, for people to read; empty if healthy."""
    status = trio.run(ask_status, directory.meta_address)
    if status is None:
        return ["the metadata server"]
    lacking = []
    # One that just died counts as up until it was silent for a while: the supervisor knows sooner.
    running_count = settings.chunk_servers - _idle_chunk_servers(directory)
    missing_count = settings.chunk_servers - min(count_up(status), running_count)
    if missing_count > 0:
        lacking.append(f"{missing_count} chunk server" + ("s" if missing_count > 1 else ""))
    if not _is_mounted(directory, settings):
        lacking.append("the mount")
    return lacking


def _idle_chunk_servers(directory: ClusterDirectory) -> int:
    """Chunk servers whose process does not run, as their supervisor last saw it."""
    state = directory.read_state()
    parts = state.parts if state else ()
    return sum(part.role.startswith("chunk-") and not part.pid for part in parts)


def _is_mounted(directory: ClusterDirectory, settings: ClusterSettings) -> bool:
    state = directory.read_state()
    part = next((p for p in state.parts if p.role == MOUNT_ROLE), None) if state else None
    if part is None or not part.pid:
        return False
    entry = find_mount(settings.mountpoint)
    is_ours = entry is not None and entry.filesystem_type == FILESYSTEM_TYPE
    return is_ours and not is_stale(settings.mountpoint)
