"""Histories made by random clients of a simple filesystem: right ones are accepted, falsified ones
refused, and thousands of ops cost little.

The filesystem here is a dict that does one op at a time, at a random moment between its call and
its return. It shares no code with the checker's model.
"""

from __future__ import annotations

import copy
import errno
import random
from typing import TYPE_CHECKING

import pytest

from tests.simulation.checkers.history import Answer, History, Op, check_history, examine
from tests.simulation.checkers.namespace_model import value_of
from tests.simulation.workloads.tree import RENAME_EXCHANGE, RENAME_NOREPLACE

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES, DIRECTORIES = 3, 3
SLOTS = NAMES * DIRECTORIES
KINDS = ("create", "mkdir", "unlink", "rmdir", "lookup", "stat", "rename", "link", "list")
WEIGHTS = (6, 2, 4, 2, 4, 2, 6, 2, 1)
CLIENTS = 10
FALSE_SHARE_MIN = 0.9
"""Of falsified answers some are right, too: a removal that might have come first, say."""


class Filesystem:
    """Slots in a dict, and the numbers of what is in them."""

    def __init__(self) -> None:
        self._there: dict[int, int] = {}
        self._made, self._next_made = 0, 101

    def do(self, op: Op, *, made: int = 0) -> Answer:
        """The answer. A creation makes `made`, or a number that nobody had."""
        self._made = made // 2 or self._next_made
        self._next_made += 1
        rule: Callable[[Op], Answer] = getattr(self, f"_{op.kind}")
        return rule(op)

    def answering(self, history: History, number: int) -> Filesystem | None:
        """A copy that has done the op; None if its answer was another."""
        op, answer = history.ops[number], history.answers[number]
        assert isinstance(op, Op)
        assert isinstance(answer, Answer)
        after = copy.deepcopy(self)
        return after if after.do(op, made=answer.value) == answer else None

    def _create(self, op: Op) -> Answer:
        if op.slot in self._there:
            return Answer(errno.EEXIST)
        self._there[op.slot] = value_of(self._made, is_directory=op.kind == "mkdir")
        return Answer(0, self._there[op.slot])

    _mkdir = _create

    def _unlink(self, op: Op) -> Answer:
        found = self._there.get(op.slot)
        if found is None:
            return Answer(errno.ENOENT)
        if found % 2 != (op.kind == "rmdir"):
            return Answer(errno.EISDIR if found % 2 else errno.ENOTDIR)
        del self._there[op.slot]
        return Answer(0)

    _rmdir = _unlink

    def _lookup(self, op: Op) -> Answer:
        found = self._there.get(op.slot)
        return Answer(0, found) if found else Answer(errno.ENOENT)

    def _stat(self, op: Op) -> Answer:
        found = self._there.get(op.slot)
        if not found:
            return Answer(errno.ENOENT)
        names = [slot for slot in self._there if self._there[slot] == found]
        return Answer(0, found, 2 if found % 2 else len(names))

    def _list(self, op: Op) -> Answer:
        slots = range(op.slot * NAMES, op.slot * NAMES + NAMES)
        return Answer(0, listed=tuple(self._there.get(slot, 0) for slot in slots))

    def _link(self, op: Op) -> Answer:
        if op.value not in self._there.values():
            return Answer(errno.ESTALE)
        if op.slot in self._there:
            return Answer(errno.EEXIST)
        self._there[op.slot] = op.value
        return Answer(0)

    def _rename(self, op: Op) -> Answer:
        source, target = self._there.get(op.slot), self._there.get(op.other)
        if source is None or (op.flags == RENAME_EXCHANGE and target is None):
            return Answer(errno.ENOENT)
        if op.flags == RENAME_NOREPLACE and target is not None:
            return Answer(errno.EEXIST)
        if op.flags == RENAME_EXCHANGE and target is not None:
            self._there[op.slot], self._there[op.other] = target, source
            return Answer(0)
        if target is not None and target % 2 != source % 2:
            return Answer(errno.ENOTDIR if source % 2 else errno.EISDIR)
        if target != source:
            self._there[op.other] = self._there.pop(op.slot)
        return Answer(0)


def _random_op(chooser: random.Random, seen: list[int], slot_count: int) -> Op:
    [kind] = chooser.choices(KINDS, WEIGHTS)
    slot, other = chooser.sample(range(slot_count), 2)
    if kind == "rename":
        return Op(
            kind, slot, other, flags=chooser.choice((0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE))
        )
    if kind == "link":
        files = [value for value in seen[-20:] if not value % 2]
        return Op(kind, slot, value=chooser.choice(files)) if files else Op("lookup", slot)
    return Op(kind, slot // NAMES) if kind == "list" else Op(kind, slot)


def _made_up(
    seed: int, op_count: int, *, client_count: int = CLIENTS, slot_count: int = SLOTS
) -> History:
    """Clients that call, take effect and return at random; of many a few die in the middle."""
    death_chance = 0.01 if client_count == CLIENTS else 0.0
    chooser = random.Random(seed)
    history, filesystem = History(NAMES, DIRECTORIES), Filesystem()
    waiting: dict[int, int] = {}
    done: dict[int, tuple[int, Answer]] = {}
    seen: list[int] = []
    while len(history.ops) < op_count or waiting or done:
        client = chooser.randrange(client_count)
        if client in done:
            number, answer = done.pop(client)
            if chooser.random() < death_chance:
                history.abandon(number)
            else:
                history.answer(number, answer)
                seen += [answer.value] if answer.value else []
        elif client in waiting:
            number = waiting.pop(client)
            op = history.ops[number]
            assert isinstance(op, Op)
            done[client] = (number, filesystem.do(op))
        elif len(history.ops) < op_count:
            waiting[client] = history.call(_random_op(chooser, seen, slot_count))
    return history


@pytest.mark.parametrize("seed", range(20))
def test_what_a_filesystem_answers_is_accepted(seed: int) -> None:
    assert not check_history(_made_up(seed, 300))


def _falsified(history: History, chooser: random.Random) -> None:
    """Give one op another answer."""
    number = chooser.choice(list(history.answers))
    answer = history.answers[number]
    assert isinstance(answer, Answer)
    if answer.errno:
        history.answers[number] = Answer(0, value_of(99_999))
    elif answer.listed:
        listed = list(answer.listed)
        at = chooser.randrange(len(listed))
        listed[at] = 0 if listed[at] else value_of(99_999)
        history.answers[number] = Answer(0, listed=tuple(listed))
    else:
        history.answers[number] = Answer(errno.ENOENT)


def test_one_false_answer_is_noticed() -> None:
    refused = 0
    for seed in range(40):
        history = _made_up(seed, 150)
        _falsified(history, random.Random(seed))
        refused += bool(check_history(history))
    assert refused >= FALSE_SHARE_MIN * 40


def test_thousands_of_ops_cost_few_configurations() -> None:
    history = _made_up(1, 5000)
    problem, visited = examine(history)
    assert not problem
    assert visited < 5 * len(history.ops), f"{visited} configurations"


def _is_explained(history: History) -> bool:
    """By trying every order, one op after the other."""
    returned = {number: at for at, (number, kind) in enumerate(history.events) if kind != "call"}
    called = {number: at for at, (number, kind) in enumerate(history.events) if kind == "call"}

    def follow(rest: frozenset[int], filesystem: Filesystem) -> bool:
        firsts = [n for n in rest if all(called[n] < returned[other] for other in rest)]
        return not rest or any(
            follow(rest - {number}, after)
            for number in firsts
            if (after := filesystem.answering(history, number)) is not None
        )

    return follow(frozenset(history.answers), Filesystem())


def test_the_search_agrees_with_trying_every_order() -> None:
    """On small histories, half of them false."""
    verdicts: list[bool] = []
    for seed in range(400):
        history = _made_up(seed, 9, client_count=4, slot_count=3)
        if seed % 2:
            _falsified(history, random.Random(seed))
        verdicts.append(_is_explained(history))
        assert (not check_history(history)) == verdicts[-1], f"seed {seed}"
    assert 100 < sum(verdicts) < 300
