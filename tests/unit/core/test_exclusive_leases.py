"""Goal: what a session alone has leased is its own until somebody else needs it, and then not a
moment longer (I4). Method: every way in and out, by itself."""

from __future__ import annotations

import pytest

from dfs.core import leases as module
from dfs.core.leases import Claim, Leases
from dfs.types import InodeId, SessionId

ONE, TWO, THREE = SessionId(1), SessionId(2), SessionId(3)
DIRECTORY, FILE, OTHER = InodeId(10), InodeId(11), InodeId(12)


def test_what_a_session_made_or_had_before_is_its_own() -> None:
    leases = Leases()
    leases.take(ONE, FILE)
    assert leases.is_leased(FILE)
    assert leases.has(ONE, FILE)
    assert leases.is_exclusive(ONE, FILE)
    assert not leases.is_exclusive(TWO, FILE)
    assert leases.exclusive_of(ONE) == [FILE]
    assert leases.exclusive_of(TWO) == []
    assert leases.grant(ONE, FILE), "its holder may ask for it"
    assert leases.is_exclusive(ONE, FILE)


def test_what_a_session_changed_is_its_own_if_nobody_else_has_it() -> None:
    """Method: nobody has it, the session itself has it, another one has it, too."""
    leases = Leases()
    assert leases.grant(ONE, DIRECTORY)
    assert leases.grant_exclusive(ONE, FILE)
    assert leases.grant_exclusive(ONE, DIRECTORY)
    assert leases.exclusive_of(ONE) == [DIRECTORY, FILE]
    leases = Leases()
    assert leases.grant(ONE, DIRECTORY)
    assert leases.grant(TWO, DIRECTORY)
    assert not leases.grant_exclusive(ONE, DIRECTORY)
    assert not leases.grant_exclusive(THREE, DIRECTORY)
    assert not leases.has(THREE, DIRECTORY)
    leases.give_back(TWO, [DIRECTORY])
    assert leases.grant_exclusive(ONE, DIRECTORY)


def test_nothing_becomes_ones_own_while_somebody_else_claims_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leases, own, other = Leases(), Claim(), Claim()
    leases.claim(own, {FILE: set()})
    assert leases.grant_exclusive(ONE, FILE, own)
    leases.give_back(ONE, [FILE])
    leases.claim(other, {FILE: set()})
    assert not leases.grant_exclusive(ONE, FILE, own)
    leases.release(other)
    assert not leases.grant_exclusive(ONE, FILE), "it claims that itself"
    monkeypatch.setattr(module, "LEASES_PER_SESSION_MAX", 0)
    assert not leases.grant_exclusive(ONE, FILE, own)
    assert leases.exclusive_of(ONE) == []


def test_others_look_at_it_only_when_it_is_shared() -> None:
    leases = Leases()
    leases.take(ONE, FILE)
    assert leases.grant(ONE, DIRECTORY)
    assert leases.in_sight(TWO, [DIRECTORY, FILE, OTHER]) == {ONE: {FILE: set()}}
    assert leases.in_sight(SessionId(0), [FILE]) == {ONE: {FILE: set()}}
    assert leases.in_sight(ONE, [FILE]) == {}
    leases.share(TWO, FILE)
    assert leases.is_exclusive(ONE, FILE), "that was not its holder"
    leases.share(ONE, FILE)
    leases.share(ONE, FILE)
    assert leases.in_sight(TWO, [FILE]) == {}
    assert leases.has(ONE, FILE)
    assert leases.grant(TWO, FILE)


ENDS = {
    "given back": lambda leases, _: leases.give_back(ONE, [DIRECTORY]),
    "all given back": lambda leases, _: leases.give_back_all(ONE),
    "forgotten": lambda leases, claim: leases.forget(claim, ONE, {DIRECTORY: set()}),
    "a name of it forgotten": lambda leases, claim: leases.forget(claim, ONE, {DIRECTORY: {b"a"}}),
}


@pytest.mark.parametrize("how", ENDS)
def test_what_is_forgotten_is_nobodys_own(how: str) -> None:
    leases, claim = Leases(), Claim()
    leases.take(ONE, DIRECTORY)
    leases.claim(claim, {DIRECTORY: {b"a"}})
    ENDS[how](leases, claim)
    assert not leases.is_exclusive(ONE, DIRECTORY)
    assert leases.exclusive_of(ONE) == []
    assert leases.in_sight(TWO, [DIRECTORY]) == {}
    assert leases.has(ONE, DIRECTORY) == (how == "a name of it forgotten")
    leases.release(claim)
    assert leases.grant(TWO, DIRECTORY)
