"""The memory engine keeps the contract of all engines."""

from __future__ import annotations

import pytest

from dfs.engine.memory_engine import MemoryEngine
from tests.contract.engine_contract import EngineContract


class TestMemoryEngine(EngineContract):
    @pytest.fixture
    def make_engine(self) -> type[MemoryEngine]:
        return MemoryEngine
