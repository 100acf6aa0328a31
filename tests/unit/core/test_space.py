"""Goal: `df` never counts one disk twice. Method: tables of reports and their sums."""

from __future__ import annotations

from dfs.core.space import total_space
from dfs.types import SpaceUsage


def usage(capacity: int, used: int, free: int, disk: str = "", disk_free: int = 0) -> SpaceUsage:
    return SpaceUsage(
        capacity_bytes=capacity,
        used_bytes=used,
        free_bytes=free,
        filesystem=disk,
        filesystem_capacity_bytes=100 if disk else 0,
        filesystem_free_bytes=disk_free,
    )


def test_own_disks_add_up() -> None:
    assert total_space([usage(10, 4, 6), usage(20, 5, 15)]) == SpaceUsage(30, 9, 21)
    assert total_space([]) == SpaceUsage(0, 0, 0)


def test_a_shared_disk_counts_once() -> None:
    members = [usage(100, used, 60, "one disk", 60) for used in (10, 10, 20)]
    assert total_space(members) == SpaceUsage(100, 40, 60)


def test_limits_on_a_shared_disk_add_up_until_it_is_full() -> None:
    members = [usage(10, 0, 10, "one disk", 60)] * 3
    assert total_space(members) == SpaceUsage(30, 0, 30)
    crowded = [usage(10, 0, 10, "one disk", 12)] * 3
    assert total_space(crowded) == SpaceUsage(30, 0, 12)


def test_two_disks_are_two() -> None:
    members = [usage(100, 0, 60, "a", 60), usage(100, 0, 50, "b", 50)]
    assert total_space(members) == SpaceUsage(200, 0, 110)
