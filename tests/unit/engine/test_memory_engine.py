"""What the memory engine has beyond the contract: a storage that outlives it, and power cuts."""

from __future__ import annotations

import threading

import pytest

from dfs.engine.api import Conflict, EngineDamaged
from dfs.engine.memory_engine import MemoryEngine, MemoryStorage


class Interrupted(Exception):
    """The simulation stops a process in the middle of a commit."""


def _interrupt() -> None:
    raise Interrupted


def test_what_was_committed_outlives_the_engine() -> None:
    storage = MemoryStorage()
    engine = MemoryEngine(storage)
    engine.commit({}, {b"a": b"1"})
    engine.close()
    assert MemoryEngine(storage).get([b"a"]) == [b"1"]


def test_a_power_cut_keeps_what_was_committed() -> None:
    engine = MemoryEngine()
    engine.commit({}, {b"a": b"1", b"b": b"2"})
    engine.commit({b"a": b"1"}, {b"a": b"3"}, deletes=[b"b"])
    after = engine.power_cut()
    assert after.scan(b"a", b"z", 9) == [(b"a", b"3")]


@pytest.mark.parametrize("is_kept", [False, True])
def test_a_commit_in_the_middle_of_a_power_cut_is_there_wholly_or_not(is_kept: bool) -> None:
    storage = MemoryStorage()
    engine = MemoryEngine(storage)
    engine.commit({}, {b"a": b"old", b"b": b"old", b"c": b"old"})
    storage.before_sync = _interrupt
    with pytest.raises(Interrupted):
        engine.commit({}, {b"a": b"new", b"d": b"new"}, deletes=[b"b"], clears=[(b"c", b"d")])
    assert engine.get([b"a", b"d"]) == [b"old", None]
    storage.before_sync = None
    after = engine.power_cut(is_unsynced_kept=is_kept)
    old = [(b"a", b"old"), (b"b", b"old"), (b"c", b"old")]
    new = [(b"a", b"new"), (b"d", b"new")]
    assert after.scan(b"a", b"z", 9) == (new if is_kept else old)
    after.commit({}, {b"e": b"1"})
    assert after.get([b"e"]) == [b"1"]


@pytest.mark.parametrize("is_kept", [False, True])
def test_power_cut_from_within_a_commit(is_kept: bool) -> None:
    storage = MemoryStorage()
    engine = MemoryEngine(storage)
    storage.before_sync = lambda: storage.power_cut(is_unsynced_kept=is_kept)
    with pytest.raises(EngineDamaged, match="middle of a commit"):
        engine.commit({}, {b"a": b"1"})
    assert MemoryEngine(storage).get([b"a"]) == [b"1" if is_kept else None]


def test_a_process_without_power_does_nothing() -> None:
    storage = MemoryStorage()
    engine = MemoryEngine(storage)
    export = engine.export(b"a", b"z")
    storage.power_cut()
    for call in (
        lambda: engine.commit({}, {b"a": b"1"}),
        lambda: engine.get([b"a"]),
        lambda: engine.scan(b"a", b"z", 1),
        lambda: engine.export(b"a", b"z"),
        lambda: engine.wait(b"a", None, 0),
    ):
        with pytest.raises(EngineDamaged, match="power"):
            call()
    assert list(export) == []
    assert MemoryEngine(storage).get([b"a"]) == [None]


def test_a_conflict_never_reaches_the_disk() -> None:
    synced: list[None] = []
    engine = MemoryEngine(MemoryStorage(before_sync=lambda: synced.append(None)))
    engine.commit({}, {b"a": b"1"})
    with pytest.raises(Conflict):
        engine.commit({b"a": None}, {b"a": b"2"})
    assert len(synced) == 1


def test_close_wakes_who_waits() -> None:
    engine = MemoryEngine()
    is_started = threading.Event()
    answers: list[bytes | None] = []

    def wait() -> None:
        is_started.set()
        answers.append(engine.wait(b"a", None, 30))

    thread = threading.Thread(target=wait)
    thread.start()
    is_started.wait(10)
    # The condition is free only once the waiter sleeps in it, or before it looked.
    while not engine._has_committed._waiters:  # type: ignore[attr-defined]
        pass
    engine.close()
    thread.join(10)
    assert answers == [None]
