"""Disks of chunk servers that are full, and disks that forget.

| fault | what happens | then |
|---|---|---|
| `full-disk` | all space of the small disk is taken: writes go elsewhere | room is made |
| `flip-bytes` | bytes of one server's segments change, while it runs | fsck repairs, under load |

There are two copies of everything, so nobody may notice either. Only one server is damaged at a
time: the next fault strikes when fsck has found and replaced every bad copy.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import trio

from tests.simulation.world import Violation

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from tests.chaos.cluster import Cluster

FULL_S_MAX = 4.0
FLIPS_MAX = 40
FLIP_BYTES_MAX = 16
ROT_S_MAX = 2.0
SEGMENT_POLL_S = 0.05


async def full_disk(cluster: Cluster, chooser: random.Random) -> str:
    server = cluster.chunks[0]
    await trio.to_thread.run_sync(cluster.small_disk.fill)
    try:
        await cluster.wait_free_space(server, has_some=False)
        await trio.sleep(chooser.uniform(0, FULL_S_MAX))
    finally:
        cluster.small_disk.make_room()
    await cluster.wait_free_space(server, has_some=True)
    return server.name


async def flip_bytes(cluster: Cluster, chooser: random.Random) -> str:
    number = chooser.randrange(len(cluster.chunks))
    directory = cluster.chunk_directory(number) / "segments"
    while True:
        segments = sorted(directory.iterdir())
        if segments:
            break
        await trio.sleep(SEGMENT_POLL_S)  # nothing was written to this server yet
    for _ in range(chooser.randint(1, FLIPS_MAX)):
        _flip(chooser.choice(segments), chooser)
    await trio.sleep(chooser.uniform(0, ROT_S_MAX))
    await cluster.wait_servers_up()
    report = await cluster.fsck("--verify-data", "--repair")
    if report["unreachable"]:
        raise Violation(f"fsck could not ask {report['unreachable']}, and all servers are up")
    return cluster.chunks[number].name


def _flip(segment: Path, chooser: random.Random) -> None:
    """Change some bytes in the middle of a file that its server goes on writing to."""
    with segment.open("r+b", buffering=0) as file:
        offset = chooser.randrange(max(1, os.fstat(file.fileno()).st_size))
        old = os.pread(file.fileno(), chooser.randint(1, FLIP_BYTES_MAX), offset)
        os.pwrite(file.fileno(), bytes(byte ^ chooser.randint(1, 255) for byte in old), offset)
