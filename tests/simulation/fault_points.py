"""Fault points in product code (`Environment.fault_point`): which are armed, and what they do.

A point is where one step is done and what follows from it is not. The seed arms some of the points
of a run; at an armed one a process now and then waits for a while, with everybody else going on. A
process that is to die at a fault point (`doom.py`) dies at the next one, armed or not.
"""

from __future__ import annotations

import random


class FaultPoints:
    """What the points of one run do. Nothing, until `begin`."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._random = random.Random(f"{seed}/fault points")
        self._armed_chance = 0.0
        self._delay_s = 0.0
        self.passed: dict[str, int] = {}
        """Point → how often it was passed."""

    def begin(self, *, armed_chance: float, delay_s: float) -> None:
        """Arm each point with this chance, to delay by about `delay_s` now and then."""
        self._armed_chance, self._delay_s = armed_chance, delay_s

    def end(self) -> None:
        self._armed_chance = 0.0

    def delay_s(self, point: str) -> float:
        """How long a process that has come to this point waits there."""
        self.passed[point] = self.passed.get(point, 0) + 1
        if not self._armed_chance:
            return 0.0
        if random.Random(f"{self._seed}/{point}").random() >= self._armed_chance:
            return 0.0
        strikes = self._random.random() < STRIKE_CHANCE
        return self._random.expovariate(1 / self._delay_s) if strikes else 0.0


STRIKE_CHANCE = 0.2
