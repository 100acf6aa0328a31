"""Goal: nothing changes while anybody remembers it, and no more is recalled than that (I4).
Method: every rule by itself, then random steps of sessions that forget late and answer later."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfs.core import leases as module
from dfs.core.leases import Claim, Leases, Touched, named_by, touched_by
from dfs.core.namespace.keys import (
    block_key,
    dentry_key,
    extent_key,
    inode_key,
    orphan_key,
    session_key,
    xattr_key,
)
from dfs.core.namespace.ops import (
    CommitData,
    Create,
    Link,
    Mkdir,
    RemoveXattr,
    Rename,
    Rmdir,
    SetAttr,
    SetXattr,
    Symlink,
    Unlink,
)
from dfs.types import BlockId, Credentials, InodeId, SessionId

if TYPE_CHECKING:
    from dfs.core.namespace.ops import AnyOp

ONE, TWO, THREE = SessionId(1), SessionId(2), SessionId(3)
DIRECTORY, FILE, OTHER = InodeId(10), InodeId(11), InodeId(12)
WHO = {"credentials": Credentials(0, 0), "now_ns": 0}


def held_by(*sessions: SessionId, ino: InodeId = DIRECTORY) -> Leases:
    leases = Leases()
    for session_id in sessions:
        assert leases.grant(session_id, ino)
    return leases


# ---------------------------------------------------------------- what an op touches


def test_changed_records_touch_inodes_and_names() -> None:
    """Goal: all that leases cover, and nothing else. Method: a key of every kind of record."""
    changes = {
        inode_key(DIRECTORY): None,
        dentry_key(DIRECTORY, b"a"): None,
        dentry_key(DIRECTORY, b"b"): None,
        dentry_key(OTHER, b"c"): None,
        xattr_key(FILE, b"user.x"): None,
        extent_key(InodeId(20), 0): None,
        inode_key(InodeId(21)): None,
        block_key(BlockId(bytes(32))): None,
        orphan_key(InodeId(22)): None,
        session_key(ONE): None,
    }
    assert touched_by(changes) == {
        DIRECTORY: {b"a", b"b"},
        OTHER: {b"c"},
        FILE: set(),
        InodeId(20): set(),
        InodeId(21): set(),
    }


IN_DIRECTORY = {DIRECTORY: {b"n"}}
NAMED: list[tuple[AnyOp, Touched]] = [
    (Create(**WHO, parent=DIRECTORY, name=b"n", ino=FILE, mode=0o100644), IN_DIRECTORY),
    (Mkdir(**WHO, parent=DIRECTORY, name=b"n", ino=FILE, mode=0o755), IN_DIRECTORY),
    (Symlink(**WHO, parent=DIRECTORY, name=b"n", ino=FILE, target=b"t"), IN_DIRECTORY),
    (Unlink(**WHO, parent=DIRECTORY, name=b"n"), IN_DIRECTORY),
    (Rmdir(**WHO, parent=DIRECTORY, name=b"n"), IN_DIRECTORY),
    (Link(**WHO, ino=FILE, parent=DIRECTORY, name=b"n"), {FILE: set(), DIRECTORY: {b"n"}}),
    (
        Rename(**WHO, parent=DIRECTORY, name=b"n", new_parent=OTHER, new_name=b"m"),
        {DIRECTORY: {b"n"}, OTHER: {b"m"}},
    ),
    (
        Rename(**WHO, parent=DIRECTORY, name=b"n", new_parent=DIRECTORY, new_name=b"m"),
        {DIRECTORY: {b"n", b"m"}},
    ),
    (SetAttr(**WHO, ino=FILE), {FILE: set()}),
    (SetXattr(**WHO, ino=FILE, name=b"user.x", value=b""), {FILE: set()}),
    (RemoveXattr(**WHO, ino=FILE, name=b"user.x"), {FILE: set()}),
    (CommitData(**WHO, ino=FILE, pieces=()), {FILE: set()}),
]


@pytest.mark.parametrize(("op", "named"), NAMED, ids=lambda value: type(value).__name__)
def test_an_op_names_what_its_fields_say(op: AnyOp, named: Touched) -> None:
    assert named_by(op) == named


# ---------------------------------------------------------------- giving and taking back


def test_a_session_has_so_many_leases_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEASES_PER_SESSION_MAX", 2)
    leases = Leases()
    assert [leases.grant(ONE, InodeId(ino)) for ino in (1, 2, 3)] == [True, True, False]
    assert leases.grant(ONE, InodeId(1)), "it has this one already"
    assert leases.grant(TWO, InodeId(3)), "another session has its own limit"
    leases.give_back(ONE, [InodeId(1)])
    assert leases.grant(ONE, InodeId(3))
    assert leases.count(ONE) == 2


def test_what_was_given_back_is_in_nobodys_way() -> None:
    leases = held_by(ONE, TWO, THREE)
    leases.give_back(ONE, [DIRECTORY, FILE])
    leases.give_back_all(TWO)
    touched: Touched = {DIRECTORY: {b"a"}}
    assert leases.in_the_way(None, SessionId(0), touched, {}) == {THREE: touched}
    assert [leases.has(each, DIRECTORY) for each in (ONE, TWO, THREE)] == [False, False, True]
    assert leases.count(ONE) == leases.count(TWO) == 0
    leases.give_back(ONE, [DIRECTORY])
    leases.give_back_all(TWO)
    assert leases.count(THREE) == 1


# ---------------------------------------------------------------- changes


def test_only_whoever_has_the_inode_is_in_the_way() -> None:
    leases = held_by(ONE, TWO)
    assert leases.grant(THREE, FILE)
    assert leases.in_the_way(None, THREE, {DIRECTORY: {b"a"}, OTHER: set()}, {}) == {
        ONE: {DIRECTORY: {b"a"}},
        TWO: {DIRECTORY: {b"a"}},
    }


def test_own_leases_are_in_the_way_where_the_op_did_not_name_them() -> None:
    """Goal: a session has forgotten what its op names, and nothing else. Method: one that has all,
    and ops that name more and less."""
    leases = held_by(ONE)
    leases.grant(ONE, FILE)
    touched: Touched = {DIRECTORY: {b"a"}, FILE: set()}

    def recalls(named: Touched) -> Touched:
        return leases.in_the_way(None, ONE, touched, named).get(ONE, {})

    assert recalls({DIRECTORY: {b"a", b"b"}, FILE: set()}) == {}
    assert recalls({DIRECTORY: {b"a"}}) == {FILE: set()}
    assert recalls({DIRECTORY: {b"b"}, FILE: set()}) == {DIRECTORY: {b"a"}}
    assert recalls({}) == touched
    assert leases.in_the_way(None, TWO, touched, {DIRECTORY: {b"a"}, FILE: set()}) == {ONE: touched}


def test_a_forgotten_name_leaves_the_rest_of_the_directory_leased() -> None:
    leases = held_by(ONE)
    claim = Claim()
    touched: Touched = {DIRECTORY: {b"a"}}
    leases.claim(claim, touched)
    leases.forget(claim, ONE, touched)
    assert leases.in_the_way(claim, TWO, touched, {}) == {}
    assert leases.has(ONE, DIRECTORY)
    more: Touched = {DIRECTORY: {b"a", b"b"}}
    assert leases.in_the_way(claim, TWO, more, {}) == {ONE: more}
    assert leases.in_the_way(Claim(), TWO, touched, {}) == {ONE: touched}, "told to one change only"
    leases.release(claim)
    assert leases.in_the_way(claim, TWO, touched, {}) == {ONE: touched}


def test_an_inode_that_was_forgotten_is_leased_no_more() -> None:
    leases = held_by(ONE, ino=FILE)
    claim = Claim()
    leases.claim(claim, {FILE: set()})
    leases.forget(claim, ONE, {FILE: set()})
    assert not leases.has(ONE, FILE)


def test_nothing_is_leased_while_anyone_claims_it() -> None:
    """Goal: not even to who has it. Method: two claims, released one after the other, one twice."""
    leases = held_by(ONE)
    first, second = Claim(), Claim()
    leases.claim(first, {DIRECTORY: {b"a"}})
    leases.claim(first, {DIRECTORY: {b"b"}, FILE: set()})
    leases.claim(second, {DIRECTORY: set()})
    leases.release(first)
    leases.release(first)
    assert leases.grant(TWO, FILE)
    assert not leases.grant(ONE, DIRECTORY)
    assert not leases.grant(TWO, DIRECTORY)
    leases.release(second)
    assert leases.grant(TWO, DIRECTORY)


def test_an_answer_to_a_change_that_was_given_up_takes_nothing_back() -> None:
    """Goal: a lease that was given after the session forgot stays known. Method: it forgets, asks
    again, and only then its answer arrives; the claim was released in between."""
    leases = held_by(ONE, ino=FILE)
    claim = Claim()
    leases.claim(claim, {FILE: set()})
    leases.release(claim)
    assert leases.grant(ONE, FILE)
    leases.forget(claim, ONE, {FILE: set()})
    assert leases.has(ONE, FILE)
    assert leases.in_the_way(None, TWO, {FILE: set()}, {}) == {ONE: {FILE: set()}}


# ---------------------------------------------------------------- random steps

SESSIONS = (ONE, TWO)
INOS = (DIRECTORY, FILE)
NAMES = (b"a", b"b")
Fact = tuple[InodeId, bytes]
"""A name in a directory, or an inode's attributes: the name is empty then."""


def facts_of(touched: Touched) -> set[Fact]:
    """What is forgotten because of it, and nobody may remember while it changes."""
    facts = set()
    for ino, names in touched.items():
        facts |= {(ino, name) for name in (names or NAMES)} | {(ino, b"")}
    return facts


class Change:
    """An op that wants to happen."""

    def __init__(self, own: SessionId, touched: Touched, named: Touched) -> None:
        self.own, self.touched, self.named = own, touched, named
        self.claim = Claim()


class Recalled:
    """A recall on its way: sent, then heard, then answered."""

    def __init__(self, change: Change, session_id: SessionId, touched: Touched) -> None:
        self.change, self.session_id, self.touched = change, session_id, touched
        self.is_heard = False


class Sessions:
    """Sessions that remember all that they may, beside the leases that say who does."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.leases = Leases()
        self.remembered: dict[SessionId, set[Fact]] = {each: set() for each in SESSIONS}
        self.changes: list[Change] = []
        self.recalls: list[Recalled] = []
        self.done_count = 0

    def step(self) -> None:
        choices = [self.ask, self.ask, self.begin, self.leave]
        choices += [self.go_on, self.give_up] if self.changes else []
        choices += [self.carry] * 4 if self.recalls else []
        self.random.choice(choices)()
        for session_id, facts in self.remembered.items():
            assert all(self.leases.has(session_id, ino) for ino, _ in facts)

    def ask(self) -> None:
        """Nothing is kept of what own ops are changing."""
        session_id, ino = self.random.choice(SESSIONS), self.random.choice(INOS)
        is_in_flux = any(c.own == session_id and ino in c.named for c in self.changes)
        if self.leases.grant(session_id, ino) and not is_in_flux:
            self.remembered[session_id] |= facts_of({ino: set()})

    def some(self) -> Touched:
        inos = self.random.sample(INOS, self.random.randint(1, 2))
        return {ino: set(self.random.sample(NAMES, self.random.randint(0, 2))) for ino in inos}

    def begin(self) -> None:
        own, touched = self.random.choice(SESSIONS), self.some()
        named = dict(list(touched.items())[: self.random.randint(0, 2)])
        self.remembered[own] -= facts_of(named)
        self.changes.append(Change(own, touched, named))

    def go_on(self) -> None:
        """The change happens, or what is in its way is recalled. It may touch more by now."""
        change = self.random.choice(self.changes)
        if self.random.random() < 0.2:
            change.touched = {ino: names | {b"a"} for ino, names in change.touched.items()}
        recalls = self.leases.in_the_way(change.claim, change.own, change.touched, change.named)
        if recalls:
            self.leases.claim(change.claim, change.touched)
            self.recalls += [Recalled(change, *each) for each in recalls.items()]
            return
        for session_id, facts in self.remembered.items():
            assert not facts & facts_of(change.touched), session_id
        self.done_count += 1
        self.end(change)

    def give_up(self) -> None:
        self.end(self.random.choice(self.changes))

    def end(self, change: Change) -> None:
        self.leases.release(change.claim)
        self.changes.remove(change)

    def carry(self) -> None:
        """A recall, or the answer to it, arrives."""
        recalled = self.random.choice(self.recalls)
        if not recalled.is_heard:
            recalled.is_heard = True
            self.remembered[recalled.session_id] -= facts_of(recalled.touched)
        else:
            self.recalls.remove(recalled)
            claim = recalled.change.claim
            self.leases.forget(claim, recalled.session_id, recalled.touched)

    def leave(self) -> None:
        """Give one back, or all: recalls of a session that is over are answered by that."""
        session_id, ino = self.random.choice(SESSIONS), self.random.choice([*INOS, None])
        if ino is not None:
            self.remembered[session_id] -= facts_of({ino: set()})
            self.leases.give_back(session_id, [ino])
        else:
            self.remembered[session_id].clear()
            self.leases.give_back_all(session_id)
            self.recalls = [each for each in self.recalls if each.session_id != session_id]


@settings(max_examples=100)
@given(st.integers(0, 2**32), st.integers(1, 300))
def test_nothing_changes_while_anybody_remembers_it(seed: int, step_count: int) -> None:
    sessions = Sessions(Random(seed))
    for _ in range(step_count):
        sessions.step()


def test_the_random_steps_lead_somewhere() -> None:
    sessions = Sessions(Random(1))
    for _ in range(1000):
        sessions.step()
    assert sessions.done_count > 50
