"""I4 and I8 under contention: what every client was told must be explicable by one order of all
ops, in real time, on one directory.

Each op takes effect at one moment between its call and its return. The check walks through calls
and returns, and keeps every state that the directory may be in, with the ops that have taken
effect and not returned yet. When none is left, no order explains the answers. An op whose client
died may have happened at any moment until it is abandoned, or not at all.

A state maps names to inodes. The inode of a creation that nobody was told of is a guess, settled
by the first answer that shows it.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIGURATIONS_MAX = 50_000

State = tuple[int, ...]
"""By number of the name: the inode that has it; 0 for none, negative for a guess."""


class Op(NamedTuple):
    """What was asked: create, unlink, lookup, rename (to `other`), link (of `ino`) or list."""

    kind: str
    name: int = 0
    other: int = 0
    ino: int = 0


class Answer(NamedTuple):
    """What was told: an errno, or 0 with an inode (create, lookup) or what is there (list)."""

    errno: int
    ino: int = 0
    listed: State = ()


@dataclass
class History:
    """Calls, returns and abandoned calls, in the order of time."""

    name_count: int
    events: list[tuple[int, str]] = field(default_factory=list)
    ops: dict[int, Op] = field(default_factory=dict)
    answers: dict[int, Answer] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def call(self, op: Op) -> int:
        number = next(self._numbers)
        self.ops[number] = op
        self.events.append((number, "call"))
        return number

    def answer(self, number: int, answer: Answer) -> None:
        self.answers[number] = answer
        self.events.append((number, "return"))

    def abandon(self, number: int) -> None:
        """Its client is dead, and nothing of it can happen any more."""
        self.events.append((number, "abandon"))


Configuration = tuple[State, frozenset[int]]
"""A state, and the ops in it that have not returned."""


def check_history(history: History) -> str:
    """The first answer that no order explains (I4, I8); empty when one order explains all."""
    configurations: set[Configuration] = {((0,) * history.name_count, frozenset())}
    pending: dict[int, None] = {}
    for number, event in history.events:
        if event == "call":
            pending[number] = None
            continue
        if event == "return":
            configurations = _with_effect(history, configurations, pending, number)
        else:
            configurations |= _with_effect(history, configurations, pending, number)
        configurations = {(state, done - {number}) for state, done in configurations}
        del pending[number]
        if not configurations:
            op, answer = history.ops[number], history.answers[number]
            return f"op {number}, {op}, was answered {answer}: no order of the ops explains it"
        if len(configurations) > CONFIGURATIONS_MAX:
            return f"op {number}: too many orders to follow"
    return ""


def _with_effect(
    history: History, configurations: set[Configuration], pending: dict[int, None], number: int
) -> set[Configuration]:
    """Every configuration in which the op has taken effect, after any pending ones before it."""
    found: set[Configuration] = set()
    seen = set(configurations)
    waiting = list(configurations)
    while waiting:
        state, done = waiting.pop()
        if number in done:
            found.add((state, done))
            continue
        for other in pending:
            if other in done:
                continue
            for after in _effects(state, history.ops[other], history.answers.get(other), other):
                configuration = (after, done | {other})
                if configuration not in seen:
                    seen.add(configuration)
                    waiting.append(configuration)
    return found


def _effects(state: State, op: Op, answer: Answer | None, number: int) -> Iterator[State]:
    """States after the op, if it answers so; with no answer, whatever it would answer."""
    for guessed in _guesses(state, answer):
        right, after = _apply(guessed, op, answer, number)
        if answer is None or right == answer or _is_excused(op, right, answer):
            yield after


def _guesses(state: State, answer: Answer | None) -> Iterator[State]:
    """The state itself, or with a guess settled by what the answer shows."""
    yield state
    shown = [] if answer is None else [answer.ino, *answer.listed]
    for ino in shown:
        if ino <= 0 or ino in state:
            continue
        for guess in dict.fromkeys(value for value in state if value < 0):
            yield tuple(ino if value == guess else value for value in state)


def _is_excused(op: Op, right: Answer, answer: Answer) -> bool:
    """A link to an inode that is gone is refused in one of two ways, whatever the name."""
    is_gone = op.kind == "link" and right.errno == errno.ESTALE
    return is_gone and answer.errno in (errno.ENOENT, errno.ESTALE, errno.EEXIST)


def _apply(state: State, op: Op, answer: Answer | None, number: int) -> tuple[Answer, State]:
    """The right answer, and the state afterwards."""
    there = state[op.name]
    if op.kind == "list":
        return Answer(0, listed=state), state
    if op.kind == "lookup":
        return (Answer(0, there) if there else Answer(errno.ENOENT)), state
    if op.kind == "create":
        if there:
            return Answer(errno.EEXIST), state
        ino = answer.ino if answer is not None and answer.ino else -number
        return Answer(0, ino), _put(state, op.name, ino)
    if op.kind == "unlink":
        if not there:
            return Answer(errno.ENOENT), state
        return Answer(0), _put(state, op.name, 0)
    if op.kind == "link":
        if op.ino not in state:
            return Answer(errno.ESTALE), state
        if there:
            return Answer(errno.EEXIST), state
        return Answer(0), _put(state, op.name, op.ino)
    assert op.kind == "rename"
    if not there:
        return Answer(errno.ENOENT), state
    if there == state[op.other]:
        return Answer(0), state
    return Answer(0), _put(_put(state, op.name, 0), op.other, there)


def _put(state: State, name: int, ino: int) -> State:
    return (*state[:name], ino, *state[name + 1 :])
