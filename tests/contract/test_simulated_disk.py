"""The disk of the simulation keeps the contract, power cuts included."""

from __future__ import annotations

import pytest

from tests.contract.disk_contract import DiskContract, FullDiskContract, PowerCutContract
from tests.simulation.disk import Platter, SimDisk
from tests.simulation.trace import Trace


class TestSimulatedDisk(DiskContract, FullDiskContract):
    @pytest.fixture(autouse=True)
    def _platter(self) -> None:
        self.platter = Platter("host", "seed", Trace())

    def opened(self) -> SimDisk:
        return SimDisk(self.platter)

    def opened_small(self) -> SimDisk:
        return SimDisk(Platter("small", "seed", Trace(), capacity_bytes=16 << 20))


@pytest.mark.parametrize("seed", range(20))
class TestSimulatedDiskPower(PowerCutContract):
    @pytest.fixture(autouse=True)
    def _platter(self, seed: int) -> None:
        self.platter = Platter("host", str(seed), Trace())

    def opened(self) -> SimDisk:
        return SimDisk(self.platter)

    def cut_power(self) -> None:
        self.platter.power_cut()
