"""The faults. Each strikes one part while everybody works, lasts for a random while, and is gone
when `strike` returns; it says whom it hit.

| fault | what happens | then |
|---|---|---|
| `kill-meta` `kill-chunk` `kill-mount` | SIGKILL | the part is started again |
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    import random

    from tests.chaos.cluster import Cluster

DOWN_S_MAX = 2.0


async def kill_meta(cluster: Cluster, chooser: random.Random) -> str:
    await cluster.meta.kill()
    await trio.sleep(chooser.uniform(0, DOWN_S_MAX))
    await cluster.meta.start()
    return "meta"


async def kill_chunk(cluster: Cluster, chooser: random.Random) -> str:
    part = chooser.choice(cluster.chunks)
    await part.kill()
    await trio.sleep(chooser.uniform(0, DOWN_S_MAX))
    await part.start()
    return part.name


async def kill_mount(cluster: Cluster, chooser: random.Random) -> str:
    mount = chooser.choice(cluster.mounts)
    await mount.kill()
    await trio.sleep(chooser.uniform(0, DOWN_S_MAX))
    await mount.start()
    return mount.name


FAULTS = {"kill-meta": kill_meta, "kill-chunk": kill_chunk, "kill-mount": kill_mount}
