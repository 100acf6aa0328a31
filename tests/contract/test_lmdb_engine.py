"""The LMDB engine keeps the contract of all engines; once more with a map that must grow."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from dfs.engine.lmdb_engine import LmdbEngine
from tests.contract.engine_contract import EngineContract

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class TestLmdbEngine(EngineContract):
    @pytest.fixture
    def make_engine(self, tmp_path: Path) -> Callable[[], LmdbEngine]:
        return partial(LmdbEngine, tmp_path / "engine")


class TestLmdbEngineWithAMapThatGrows(EngineContract):
    @pytest.fixture
    def make_engine(self, tmp_path: Path) -> Callable[[], LmdbEngine]:
        return partial(LmdbEngine, tmp_path / "engine", map_bytes_min=64 * 1024)
