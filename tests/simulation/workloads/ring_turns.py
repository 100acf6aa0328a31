"""The ring, and one turn of some of its claimed slots: steps whose outcome is known, and where a
crash may have stopped."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import trio

from tests.simulation.workloads.tree import RENAME_EXCHANGE, RENAME_NOREPLACE

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

PLACEHOLDER = -1
"""A file of no worth, which a rename replaces."""


class Place(NamedTuple):
    """A name in one of the ring's directories."""

    directory: int
    name: bytes

    def __str__(self) -> str:
        return f"d{self.directory}/{self.name.decode()}"


class Ring:
    """What all tasks know: the slots, and what is in those that are claimed."""

    def __init__(self, directories: int, slots_of_each_kind: int) -> None:
        self.directory_count = directories
        size = slots_of_each_kind
        places = [Place(slot % directories, b"s%d" % slot) for slot in range(3 * size)]
        self.exchanged, self.moving = places[:size], places[size : 2 * size]
        self.claimed: dict[Place, int] = {
            place: slot for slot, place in enumerate(places) if slot >= 2 * size
        }
        """Which file is there, as long as nobody turns it."""
        self.places = places
        self.inos: dict[int, int] = {}
        """Of each file, by what it is."""
        self.making = trio.Lock()
        self.busy: dict[str, None] = {}
        """Tasks that are in the middle of something, or died there."""
        self.is_resting = trio.Event()
        """Nobody is busy."""
        self.may_turn = trio.Event()
        """Nobody looks at the whole."""
        self.is_resting.set()
        self.may_turn.set()

    def turn(self, name: str) -> None:
        """This task begins something."""
        self.busy[name] = None
        self.is_resting = trio.Event()

    def rest(self, name: str) -> None:
        """This task is not in the middle of anything."""
        self.busy.pop(name, None)
        if not self.busy:
            self.is_resting.set()

    def check(self, found: Sequence[tuple[bytes, int]]) -> str:
        """Why these names with their inodes are not the ring; empty when they are."""
        inos = [ino for _, ino in found]
        missing = [identity for identity, ino in self.inos.items() if ino not in inos]
        twice = [identity for identity, ino in self.inos.items() if inos.count(ino) > 1]
        strange = [name for name, ino in found if ino not in self.inos.values()]
        parts = (("missing", missing), ("there twice", twice), ("not of the ring", strange))
        return "; ".join(f"{what}: {which}" for what, which in parts if which)


class TurnStep(NamedTuple):
    """A rename; from a place to itself it makes a placeholder there."""

    source: Place
    target: Place
    flags: int


@dataclass
class Turn:
    """`there` says which file is at each place, as of the last step that was answered."""

    there: dict[Place, int]
    steps: list[TurnStep]
    after: dict[Place, int] | None = None
    """As `there` will be when the step under way is done."""
    places: tuple[Place, ...] = field(init=False)

    def __post_init__(self) -> None:
        used = [place for step in self.steps for place in step[:2]]
        self.places = tuple(dict.fromkeys([*self.there, *used]))

    def begin(self) -> TurnStep:
        """The next step, which may have happened from now on."""
        step, after = self.steps[0], dict(self.there)
        if step.source == step.target:
            after[step.source] = PLACEHOLDER
        else:
            left = after.pop(step.target, None)
            after[step.target] = after.pop(step.source)
            if step.flags & RENAME_EXCHANGE:
                assert left is not None
                after[step.source] = left
        self.after = after
        return step

    def end(self) -> None:
        """The step has happened."""
        assert self.after is not None
        self.there, self.after = self.after, None
        del self.steps[0]

    def resolve(self, found: dict[Place, int]) -> str:
        """Take what was found, before or after the step under way. Why it is neither; empty when it
        is one of them."""
        if found == self.after:
            self.end()
        self.after = None
        if found == self.there:
            return ""
        return f"found {_shown(found)}, expected {_shown(self.there)}"


def choose_turn(source: random.Random, there: dict[Place, int], spare: Place) -> Turn:
    """One of several ways to turn three places, with a spare name."""
    first, second, third = there
    ways = (
        [TurnStep(first, second, RENAME_EXCHANGE)],
        [TurnStep(first, second, RENAME_EXCHANGE), TurnStep(second, third, RENAME_EXCHANGE)],
        [
            TurnStep(first, spare, RENAME_NOREPLACE),
            TurnStep(second, first, 0),
            TurnStep(third, second, RENAME_NOREPLACE),
            TurnStep(spare, third, 0),
        ],
        [
            TurnStep(spare, spare, 0),
            TurnStep(first, spare, 0),
            TurnStep(third, first, RENAME_NOREPLACE),
            TurnStep(spare, third, RENAME_NOREPLACE),
        ],
    )
    return Turn(there, source.choice(ways))


def _shown(there: dict[Place, int]) -> str:
    return ", ".join(f"{place}: {there[place]}" for place in sorted(there)) or "nothing"
