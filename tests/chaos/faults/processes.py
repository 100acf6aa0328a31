"""Processes that die, and processes that stand still.

| fault | what happens | what may be noticed |
|---|---|---|
| `kill-meta` `kill-chunk` | SIGKILL; a while later it is started again | nothing but a delay |
| `kill-mount` | SIGKILL; later the next process mounts there | ENOTCONN, unsynced bytes lost |
| `pause-meta` `pause-chunk` `pause-mount` | SIGSTOP, SIGCONT, less than a session lives | a delay |
| `lose-session` | a mount stands still longer than its session lives | EIO, unsynced bytes lost |
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from tests.chaos.conditions import becomes_true
from tests.chaos.short_sessions import SESSION_TTL_S
from tests.simulation.world import Violation

if TYPE_CHECKING:
    import random

    from tests.chaos.cluster import Cluster
    from tests.chaos.part import Part

DOWN_S_MAX = 2.0
PAUSE_S_MAX = 3.0
CHUNK_PAUSE_S_MAX = 8.0
"""Long enough for clients to give it up, and for the metadata server to believe that it is down."""
OVERSLEPT_S_MAX = 2.0
NOTICE_PATIENCE_S = 30.0


async def kill_meta(cluster: Cluster, chooser: random.Random) -> str:
    await _kill(cluster.meta, chooser)
    return cluster.meta.name


async def kill_chunk(cluster: Cluster, chooser: random.Random) -> str:
    part = chooser.choice(cluster.chunks)
    await _kill(part, chooser)
    return part.name


async def _kill(part: Part, chooser: random.Random) -> None:
    await part.kill()
    await trio.sleep(chooser.uniform(0, DOWN_S_MAX))
    await part.start()


async def kill_mount(cluster: Cluster, chooser: random.Random) -> str:
    mount = chooser.choice(cluster.mounts)
    await mount.kill()
    await trio.sleep(chooser.uniform(0, DOWN_S_MAX))
    await mount.start()
    return mount.name


async def pause_meta(cluster: Cluster, chooser: random.Random) -> str:
    return await _pause(cluster.meta, chooser.uniform(0.1, PAUSE_S_MAX))


async def pause_chunk(cluster: Cluster, chooser: random.Random) -> str:
    return await _pause(chooser.choice(cluster.chunks), chooser.uniform(0.1, CHUNK_PAUSE_S_MAX))


async def pause_mount(cluster: Cluster, chooser: random.Random) -> str:
    return await _pause(chooser.choice(cluster.mounts).part, chooser.uniform(0.1, PAUSE_S_MAX))


async def lose_session(cluster: Cluster, chooser: random.Random) -> str:
    mount = chooser.choice(cluster.mounts)
    before = mount.lost_count
    asleep_s = SESSION_TTL_S * 1.25 + chooser.uniform(0, OVERSLEPT_S_MAX)
    await _pause(mount.part, asleep_s)
    if await becomes_true(lambda: mount.lost_count > before, NOTICE_PATIENCE_S):
        return mount.name
    raise Violation(f"{mount.name} slept for {asleep_s:.1f} s and did not lose its session (I7)")


async def _pause(part: Part, length_s: float) -> str:
    part.pause()
    try:
        await trio.sleep(length_s)
    finally:
        part.resume()
    return part.name
