"""The disk of the chunk server's own unit tests keeps the contract, power cuts included."""

from __future__ import annotations

import pytest

from tests.contract.disk_contract import DiskContract, FullDiskContract, PowerCutContract
from tests.unit.chunk.memory_disk import MemoryDisk


class TestMemoryDisk(DiskContract, FullDiskContract):
    @pytest.fixture(autouse=True)
    def _platter(self) -> None:
        self.disk: MemoryDisk | None = None

    def opened(self) -> MemoryDisk:
        self.disk = MemoryDisk() if self.disk is None else self.disk.process_killed()
        return self.disk

    def opened_small(self) -> MemoryDisk:
        return MemoryDisk(capacity_bytes=16 << 20)


@pytest.mark.parametrize("is_unsynced_kept", [True, False])
class TestMemoryDiskPower(PowerCutContract):
    @pytest.fixture(autouse=True)
    def _platter(self, is_unsynced_kept: bool) -> None:
        self.is_unsynced_kept = is_unsynced_kept
        self.disk = MemoryDisk()

    def opened(self) -> MemoryDisk:
        return self.disk

    def cut_power(self) -> None:
        self.disk = self.disk.power_cut(is_unsynced_kept=self.is_unsynced_kept)
