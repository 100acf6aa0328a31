"""Adds up the space of chunk servers: those on one filesystem share what is free there."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from dfs.types import SpaceUsage

if TYPE_CHECKING:
    from collections.abc import Iterable


def total_space(usages: Iterable[SpaceUsage]) -> SpaceUsage:
    """What all of them have together, in bytes. Pure.

    Several servers on one filesystem each see the whole of it: together they have no more than the
    one that sees most.
    """
    shared: defaultdict[str, list[SpaceUsage]] = defaultdict(list)
    capacity = used = free = 0
    for number, usage in enumerate(usages):
        shared[usage.filesystem or f"#{number}"].append(usage)
        used += usage.used_bytes
    for members in shared.values():
        disk_capacity = max(m.filesystem_capacity_bytes or m.capacity_bytes for m in members)
        disk_free = max(m.filesystem_free_bytes or m.free_bytes for m in members)
        capacity += min(disk_capacity, sum(m.capacity_bytes for m in members))
        free += min(disk_free, sum(m.free_bytes for m in members))
    assert capacity >= 0
    assert free >= 0
    return SpaceUsage(capacity_bytes=capacity, used_bytes=used, free_bytes=free)
