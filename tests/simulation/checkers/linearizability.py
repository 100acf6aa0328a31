"""Looks for one order of ops, in real time, that explains every answer (Wing and Gong; Lowe's
just-in-time linearization).

Each op takes effect at one moment between its call and its return. The search walks through calls
and returns, and keeps every configuration that may be: a state, and the ops that have taken effect
in it and not returned. An op takes effect no sooner than a return asks for it. When no
configuration is left, no order explains the answers. An op whose client died may have happened at
any moment until it is abandoned, or not at all.

Two things keep thousands of ops cheap, and lose no order:

- An op that changes nothing takes effect as soon as the state answers as it was answered: to wait
  could only make that harder. So reads and refusals never branch.
- Of the pending ops only those are tried before a return that touch what it touches, or touch what
  those touch: others may as well come after it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

CONFIGURATIONS_MAX = 20_000
"""At one moment; what is not decided then is given up and said."""

S = TypeVar("S", bound="Hashable")


class Event(NamedTuple):
    """`kind` is "call", "return" or "abandon"."""

    number: int
    kind: str


class Model(Protocol[S]):
    """What the ops mean."""

    first: S

    def after(self, state: S, number: int) -> S | None:
        """The state after the op, if it is answered so in this state; else None. An op without an
        answer does what it can."""

    def settled(self, state: S, number: int) -> Iterable[S]:
        """What the state may turn out to be, where it holds something unknown that the op's answer
        shows."""

    def is_change(self, number: int) -> bool:
        """Whether the op, answered so, may change the state."""

    def touches(self, number: int) -> frozenset[Any]:
        """What the op reads or changes. Ops that touch nothing in common may change places."""


class Search(Generic[S]):
    """One walk through a history."""

    def __init__(self, model: Model[S]) -> None:
        self.visited_count = 0
        """Configurations looked at: what the search costs."""
        self._model = model
        self._now: set[tuple[S, frozenset[int]]] = {(model.first, frozenset())}
        self._changes: dict[int, None] = {}
        """Pending ops that may change the state, in the order of their calls."""
        self._reads: dict[int, None] = {}
        """The other pending ops."""

    def run(self, events: Sequence[Event]) -> int:
        """The first op whose answer no order explains; 0 when one order explains all. Raises
        TooManyOrders."""
        for number, kind in events:
            if kind == "call":
                self._call(number)
                continue
            found = self._with_effect(number)
            if kind == "abandon":
                found |= self._now
            if not found:
                return number
            self._changes.pop(number, None)
            self._reads.pop(number, None)
            self._now = {(state, done - {number}) for state, done in found}
        return 0

    def _call(self, number: int) -> None:
        if self._model.is_change(number):
            self._changes[number] = None
            return
        self._reads[number] = None
        self._now = {(state, self._read(state, done, (number,))) for state, done in self._now}

    def _read(self, state: S, done: frozenset[int], reads: Iterable[int]) -> frozenset[int]:
        """The ops in `done`, and those of `reads` that the state answers as they were answered."""
        right = [
            number
            for number in reads
            if number not in done and self._model.after(state, number) is not None
        ]
        return done.union(right) if right else done

    def _with_effect(self, number: int) -> set[tuple[S, frozenset[int]]]:
        """Every configuration in which the op has taken effect, after any pending ones before."""
        near = self._near(number)
        found: set[tuple[S, frozenset[int]]] = set()
        seen = set(self._now)
        waiting = list(self._now)
        while waiting:
            state, done = waiting.pop()
            self.visited_count += 1
            if number in done:
                found.add((state, done))
                continue
            for configuration in self._next(state, done, near):
                if configuration not in seen:
                    seen.add(configuration)
                    waiting.append(configuration)
            if len(seen) > CONFIGURATIONS_MAX:
                raise TooManyOrders(number)
        return found

    def _next(
        self, state: S, done: frozenset[int], near: Sequence[int]
    ) -> Iterable[tuple[S, frozenset[int]]]:
        """Configurations one op later, or with an unknown settled by what a pending op shows."""
        for number in near:
            if number in done:
                continue
            for settled in self._model.settled(state, number):
                yield settled, self._read(settled, done, self._reads)
            if number in self._changes:
                after = self._model.after(state, number)
                if after is not None:
                    yield after, self._read(after, done | {number}, self._reads)

    def _near(self, number: int) -> list[int]:
        """Pending ops that touch what this one touches, or what those touch, and itself."""
        near, far = [], [*self._changes, *self._reads]
        touched = self._model.touches(number)
        size = -1
        while len(near) > size:
            size = len(near)
            rest = []
            for other in far:
                touches = self._model.touches(other)
                if touched.isdisjoint(touches):
                    rest.append(other)
                    continue
                near.append(other)
                touched |= touches
            far = rest
        return near


class TooManyOrders(Exception):
    """The history is too wide to be decided."""

    def __init__(self, number: int) -> None:
        super().__init__(f"op {number}: too many orders to follow")
        self.number = number


def numbered(events: Sequence[Event], numbers: Mapping[int, Any]) -> list[Event]:
    """The events of these ops only."""
    return [event for event in events if event.number in numbers]
