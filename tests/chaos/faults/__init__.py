"""Everything that can go wrong. A fault strikes one part while everybody works, lasts for a random
while, and is over when it returns; it says whom it hit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.chaos.faults import disks, network, processes

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

    from tests.chaos.cluster import Cluster

    Fault = Callable[[Cluster, random.Random], Awaitable[str]]

FAULTS: dict[str, Fault] = {
    "kill-meta": processes.kill_meta,
    "kill-chunk": processes.kill_chunk,
    "kill-mount": processes.kill_mount,
    "pause-meta": processes.pause_meta,
    "pause-chunk": processes.pause_chunk,
    "pause-mount": processes.pause_mount,
    "lose-session": processes.lose_session,
    "full-disk": disks.full_disk,
    "flip-bytes": disks.flip_bytes,
    "cut-chunk": network.cut_chunk,
    "cut-client": network.cut_client,
    "cut-reports": network.cut_reports,
}
MAY_LOSE_SESSIONS = ("lose-session",)
"""In all others a session that is lost is a failure."""


def impossible(name: str, cluster: Cluster) -> str:
    """Why this fault cannot be made here; empty if it can."""
    return cluster.small_disk.problem if name == "full-disk" else ""
