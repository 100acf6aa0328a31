"""I4 and I8 under contention: what every client was told must be explicable by one order of all
ops, in real time.

Ops that have nothing to do with each other, not even through a third one, are checked by
themselves: such parts are in order each iff the whole is. Names of one directory belong together
once it was listed, two names once something was renamed from one to the other, an inode belongs to
every name that led to it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from tests.simulation.checkers.linearizability import Event, Search, TooManyOrders, numbered
from tests.simulation.checkers.namespace_model import Answer, NamespaceModel, Op
from tests.simulation.checkers.register_model import Access, RegisterModel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tests.simulation.checkers.linearizability import Model

Node = tuple[str, int]


@dataclass
class History:
    """Calls, returns and abandoned calls, in the order of time."""

    name_count: int
    """Names in each directory."""
    directory_count: int = 1
    is_behind_kernels: bool = False
    """A kernel is between clients and callers (`namespace_model._is_kernels_own`)."""
    events: list[Event] = field(default_factory=list)
    ops: dict[int, Op | Access] = field(default_factory=dict)
    answers: dict[int, Answer | int] = field(default_factory=dict)
    """Of an access to a register: the value that was found."""
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def call(self, op: Op | Access) -> int:
        number = next(self._numbers)
        self.ops[number] = op
        self.events.append(Event(number, "call"))
        return number

    def answer(self, number: int, answer: Answer | int) -> None:
        self.answers[number] = answer
        self.events.append(Event(number, "return"))

    def abandon(self, number: int) -> None:
        """Its client is dead, and nothing of it can happen any more."""
        self.events.append(Event(number, "abandon"))

    def directory_slots(self) -> list[range]:
        """The slots of every directory."""
        size = self.name_count
        return [range(size * each, size * (each + 1)) for each in range(self.directory_count)]


def check_history(history: History) -> str:
    """The first answer that no order explains (I4, I8); empty when one order explains all."""
    return examine(history)[0]


def examine(history: History) -> tuple[str, int]:
    """What `check_history` says, and how many configurations that took."""
    visited = 0
    for model, numbers in _parts(history):
        search = Search(model)
        try:
            number = search.run(numbered(history.events, numbers))
        except TooManyOrders as error:
            return str(error), visited + search.visited_count
        visited += search.visited_count
        if number:
            op, answer = history.ops[number], history.answers[number]
            text = f"op {number}, {op}, was answered {answer}: no order of the ops explains it"
            return text, visited
    return "", visited


def _parts(history: History) -> Iterator[tuple[Model[object], dict[int, None]]]:
    """What can be checked by itself: ops by number, with what they mean."""
    accesses = {n: op for n, op in history.ops.items() if isinstance(op, Access)}
    found = {n: told for n, told in history.answers.items() if isinstance(told, int)}
    for register in dict.fromkeys(access.register for access in accesses.values()):
        numbers = {n: None for n, access in accesses.items() if access.register == register}
        yield RegisterModel(accesses, found), numbers  # type: ignore[misc]
    ops = {n: op for n, op in history.ops.items() if isinstance(op, Op)}
    answers = {n: told for n, told in history.answers.items() if isinstance(told, Answer)}
    slots = history.directory_slots()
    for numbers in _independent(ops, answers, slots):
        model = NamespaceModel(ops, answers, slots, is_behind_kernels=history.is_behind_kernels)
        yield model, numbers  # type: ignore[misc]


def _independent(
    ops: dict[int, Op], answers: dict[int, Answer], slots: Sequence[range]
) -> list[dict[int, None]]:
    """Ops by part; no op of one part touches what one of another part touches."""
    groups = _Groups()
    for number, op in ops.items():
        nodes = _nodes(op, answers.get(number), slots)
        for node in nodes[1:]:
            groups.join(nodes[0], node)
    parts: dict[Node, dict[int, None]] = {}
    for number, op in ops.items():
        node = _nodes(op, answers.get(number), slots)[0]
        parts.setdefault(groups.of(node), {})[number] = None
    return list(parts.values())


def _nodes(op: Op, answer: Answer | None, slots: Sequence[range]) -> list[Node]:
    """The names that an op is about, and the inodes that it names or shows."""
    touched: Iterable[int] = (op.slot, op.other) if op.kind == "rename" else (op.slot,)
    if op.kind == "list":
        touched = slots[op.slot]
    values = [op.value]
    if answer is not None:
        values += [answer.value, *answer.listed]
    return [("slot", each) for each in touched] + [("inode", each) for each in values if each]


class _Groups:
    """Disjoint sets of nodes."""

    def __init__(self) -> None:
        self._above: dict[Node, Node] = {}

    def of(self, node: Node) -> Node:
        """The node that stands for the set."""
        while (above := self._above.get(node, node)) != node:
            self._above[node] = self._above.get(above, above)
            node = above
        return node

    def join(self, one: Node, other: Node) -> None:
        self._above[self.of(one)] = self.of(other)


__all__ = ["Access", "Answer", "History", "Op", "check_history", "examine"]
