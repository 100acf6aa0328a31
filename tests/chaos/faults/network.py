"""Machines that do not reach each other, for less than a session lives. Packets vanish without a
word, as behind a broken switch (`tests/chaos/network.py` says how).

| fault | what is cut | what may be noticed |
|---|---|---|
| `cut-chunk` | a chunk server from everybody | a delay |
| `cut-client` | a mount from the metadata server | a delay |
| `cut-reports` | a chunk server from the metadata server, which believes it down | nothing |
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from tests.chaos.cluster import Cluster
    from tests.chaos.network import Host

CHUNK_CUT_S_MAX = 8.0
CLIENT_CUT_S_MAX = 3.0
"""TCP may need as long again to notice that all is well."""


async def cut_chunk(cluster: Cluster, chooser: random.Random) -> str:
    host = chooser.choice(cluster.chunks).host
    host.cut_cable()
    try:
        await trio.sleep(chooser.uniform(0.5, CHUNK_CUT_S_MAX))
    finally:
        host.plug_cable()
    return host.name


async def cut_client(cluster: Cluster, chooser: random.Random) -> str:
    host = chooser.choice(cluster.mounts).host
    with _parted(host, cluster.meta.host):
        await trio.sleep(chooser.uniform(0.5, CLIENT_CUT_S_MAX))
    return host.name


async def cut_reports(cluster: Cluster, chooser: random.Random) -> str:
    host = chooser.choice(cluster.chunks).host
    with _parted(host, cluster.meta.host):
        await trio.sleep(chooser.uniform(0.5, CHUNK_CUT_S_MAX))
    return host.name


@contextmanager
def _parted(one: Host, other: Host) -> Iterator[None]:
    one.stop_hearing(other)
    try:
        yield
    finally:
        one.hear_again(other)
