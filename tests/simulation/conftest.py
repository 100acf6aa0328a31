"""Async tests of the simulation run on its own clock."""

from __future__ import annotations

import pytest

from tests.simulation.scheduler import VirtualClock


@pytest.fixture
def autojump_clock() -> VirtualClock:
    """Virtual time, which jumps when all wait."""
    return VirtualClock()
