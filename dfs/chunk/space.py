"""What a chunk server may still store: free space less the reserve, within its capacity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfs.types import SpaceUsage

if TYPE_CHECKING:
    from dfs.chunk.disk import Disk
    from dfs.chunk.index import BlockIndex


class SpaceAccount:
    """Refuses before the disk does. Puts promise their bytes before they are written, so that many
    at once do not share the last free byte."""

    def __init__(
        self, disk: Disk, index: BlockIndex, *, capacity_bytes: int | None, reserve_bytes: int
    ) -> None:
        assert reserve_bytes >= 0
        assert capacity_bytes is None or capacity_bytes > 0
        self._disk = disk
        self._index = index
        self._capacity_bytes = capacity_bytes
        self._reserve_bytes = reserve_bytes
        self._promised_bytes = 0
        self._usage = SpaceUsage(capacity_bytes=0, used_bytes=0, free_bytes=0)

    @property
    def usage(self) -> SpaceUsage:
        """As of the last refresh."""
        return self._usage

    @property
    def copyable_bytes(self) -> int:
        """What compaction may fill with copies: half of the reserve is its own."""
        return self._usage.free_bytes + self._reserve_bytes // 2

    @property
    def is_short(self) -> bool:
        """Less than a tenth is free: dead bytes are worth more work than usual."""
        return self._usage.free_bytes * 10 < self._usage.capacity_bytes

    def refresh(self) -> None:
        """Ask the disk. Blocking. Raises OSError."""
        space = self._disk.space()
        used = self._index.used_bytes
        capacity = max(0, space.capacity_bytes - self._reserve_bytes)
        free = max(0, space.free_bytes - self._reserve_bytes)
        whole_capacity, whole_free = capacity, free
        if self._capacity_bytes is not None:
            capacity = min(capacity, self._capacity_bytes)
            free = min(free, max(0, self._capacity_bytes - used))
        self._usage = SpaceUsage(
            capacity_bytes=capacity,
            used_bytes=used,
            free_bytes=free,
            filesystem=space.filesystem,
            filesystem_capacity_bytes=whole_capacity if space.filesystem else 0,
            filesystem_free_bytes=whole_free if space.filesystem else 0,
        )

    def promise(self, size: int) -> bool:
        """Set `size` bytes aside for a put, if there are as many."""
        assert size > 0
        if self._promised_bytes + size > self._usage.free_bytes:
            return False
        self._promised_bytes += size
        return True

    def settle(self, size: int) -> None:
        """A promised put is on the disk, or will never be."""
        self._promised_bytes -= size
        assert self._promised_bytes >= 0
