"""What ops on a few contended names mean: create, mkdir, unlink, rmdir, link, rename, lookup, stat,
list.

A slot is one name in one directory. A state says for every slot what has it: 0 for nothing, else a
value that holds the inode number and whether it is a directory (`value_of`). What a creation made
that nobody was told of is a guess, a negative value, until some answer shows it.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, NamedTuple

from tests.simulation.workloads.tree import RENAME_EXCHANGE, RENAME_NOREPLACE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

State = tuple[int, ...]
CREATIONS = ("create", "mkdir")
SHOWING = ("lookup", "stat", "list")
NOWHERE = -1
"""Touched by whoever depends on all slots."""


def value_of(ino: int, *, is_directory: bool = False) -> int:
    """As states and answers name an inode."""
    return 2 * ino + is_directory


def is_directory(value: int) -> bool:
    return bool(abs(value) & 1)


class Op(NamedTuple):
    """What was asked, of which slot. Rename goes to the slot `other`; link gives a name to the
    inode `value`; list is of the directory `slot`."""

    kind: str
    slot: int = 0
    other: int = 0
    value: int = 0
    flags: int = 0


class Answer(NamedTuple):
    """What was told: an errno, or 0 with a value (create, mkdir, lookup, stat), its link count
    (stat), or the values of a directory's slots (list)."""

    errno: int
    value: int = 0
    nlink: int = 0
    listed: State = ()


class NamespaceModel:
    """Ops by number, with the answers that were given; see linearizability.Model."""

    def __init__(
        self,
        ops: Mapping[int, Op],
        answers: Mapping[int, Answer],
        directory_slots: list[range],
        *,
        is_behind_kernels: bool = False,
    ) -> None:
        self._ops = ops
        self._answers = answers
        self._directory_slots = directory_slots
        self._is_behind_kernels = is_behind_kernels
        self.first: State = (0,) * directory_slots[-1].stop
        self._everywhere = frozenset(range(NOWHERE, directory_slots[-1].stop))

    def is_change(self, number: int) -> bool:
        answer = self._answers.get(number)
        return answer is None or (answer.errno == 0 and self._ops[number].kind not in SHOWING)

    def touches(self, number: int) -> frozenset[int]:
        op = self._ops[number]
        if op.kind in ("link", "stat"):
            return self._everywhere
        if op.kind == "list":
            return frozenset(self._directory_slots[op.slot])
        return frozenset((op.slot, op.other) if op.kind == "rename" else (op.slot,))

    def settled(self, state: State, number: int) -> Iterable[State]:
        answer = self._answers.get(number)
        if answer is None or self._ops[number].kind not in SHOWING or min(state) >= 0:
            return
        for shown in (answer.value, *answer.listed):
            if shown <= 0 or shown in state:
                continue
            for guess in dict.fromkeys(value for value in state if value < 0):
                if is_directory(guess) == is_directory(shown):
                    yield tuple(shown if value == guess else value for value in state)

    def after(self, state: State, number: int) -> State | None:
        op, answer = self._ops[number], self._answers.get(number)
        told = answer.value if answer is not None else 0
        right, after = self._apply(state, op, told or -value_of(number))
        if answer is None or right == answer or _is_excused(op, right, answer):
            return after
        if self._is_behind_kernels and _is_kernels_own(state, op, answer):
            return state
        return None

    def _apply(self, state: State, op: Op, made: int) -> tuple[Answer, State]:
        """The right answer, and the state afterwards; a creation makes `made`."""
        there = state[op.slot] if op.kind != "list" else 0
        if op.kind == "list":
            slots = self._directory_slots[op.slot]
            return Answer(0, listed=state[slots.start : slots.stop]), state
        if op.kind in SHOWING:
            return _show(state, op, there), state
        if op.kind in CREATIONS:
            made = made if made > 0 or op.kind == "create" else made - 1
            return _add(state, op.slot, made, Answer(0, made))
        if op.kind == "link":
            if op.value not in state:
                return Answer(errno.ESTALE), state
            return _add(state, op.slot, op.value, Answer(0))
        if op.kind == "rename":
            return _rename(state, op)
        return _remove(state, op, there)


def _show(state: State, op: Op, there: int) -> Answer:
    if not there:
        return Answer(errno.ENOENT)
    nlink = 2 if is_directory(there) else state.count(there)
    return Answer(0, there, nlink if op.kind == "stat" else 0)


def _add(state: State, slot: int, value: int, told: Answer) -> tuple[Answer, State]:
    if state[slot]:
        return Answer(errno.EEXIST), state
    return told, _put(state, slot, value)


def _remove(state: State, op: Op, there: int) -> tuple[Answer, State]:
    if not there:
        return Answer(errno.ENOENT), state
    if op.kind == "unlink" and is_directory(there):
        return Answer(errno.EISDIR), state
    if op.kind == "rmdir" and not is_directory(there):
        return Answer(errno.ENOTDIR), state
    return Answer(0), _put(state, op.slot, 0)


def _rename(state: State, op: Op) -> tuple[Answer, State]:
    source, target = state[op.slot], state[op.other]
    problem = _rename_problem(source, target, op.flags)
    if problem or source == target:
        return Answer(problem), state
    left = target if op.flags & RENAME_EXCHANGE else 0
    return Answer(0), _put(_put(state, op.slot, left), op.other, source)


def _rename_problem(source: int, target: int, flags: int) -> int:
    """In the order in which Linux looks (rename(2), fs/namei.c). Directories here are empty."""
    if not source:
        return errno.ENOENT
    if flags & RENAME_NOREPLACE and target:
        return errno.EEXIST
    if flags & RENAME_EXCHANGE:
        return 0 if target else errno.ENOENT
    if not target or source == target or is_directory(source) == is_directory(target):
        return 0
    return errno.ENOTDIR if is_directory(source) else errno.EISDIR


def _is_kernels_own(state: State, op: Op, answer: Answer) -> bool:
    """A kernel looks up both names of a rename, one after the other, and does nothing if they lead
    to one inode (rename(2)): this may come of another's rename between its looks, and is 0 though
    the old name is gone."""
    is_done = op.kind == "rename" and answer == Answer(0)
    return is_done and not state[op.slot] and state[op.other] != 0


def _is_excused(op: Op, right: Answer, answer: Answer) -> bool:
    """A link to an inode that is gone is refused in one of several ways, whatever the name."""
    is_gone = op.kind == "link" and right.errno == errno.ESTALE
    return is_gone and answer.errno in (errno.ENOENT, errno.ESTALE, errno.EEXIST)


def _put(state: State, slot: int, value: int) -> State:
    return (*state[:slot], value, *state[slot + 1 :])
