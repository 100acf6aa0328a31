"""What every engine must do, as tests. An engine's own module subclasses EngineContract and says
how to make one; nothing here knows which engine it runs against."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dfs.engine.api import Conflict, TooLarge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dfs.engine.api import Engine, Row

END = b"\xff" * 16
FENCE = b"fence"


def rows_of(engine: Engine, start: bytes = b"\0", end: bytes = END) -> list[Row]:
    return [row for page in engine.export(start, end) for row in page]


def run_threads(functions: list[Callable[[], None]]) -> None:
    """Run all at once; what one of them raised is raised here."""
    errors: list[BaseException] = []

    def run(function: Callable[[], None]) -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    if errors:
        raise errors[0]


class EngineContract:
    """Subclasses define `make_engine`, a fixture that gives a function making an empty engine."""

    @pytest.fixture
    def engine(self, make_engine: Callable[[], Engine]) -> Iterator[Engine]:
        engine = make_engine()
        yield engine
        engine.close()

    # ------------------------------------------------------------ get and scan

    def test_get_answers_in_order_and_none_for_absent(self, engine: Engine) -> None:
        engine.commit({}, {b"a": b"1", b"c": b"", b"\xff\x00": b"3"})
        asked = [b"c", b"b", b"a", b"a", b"\xff\x00", b"\xff"]
        assert engine.get(asked) == [b"", None, b"1", b"1", b"3", None]
        assert engine.get([]) == []

    def test_keys_sort_as_unsigned_bytes(self, engine: Engine) -> None:
        keys = [b"\x00", b"\x00\x00", b"\x01", b"\x7f", b"\x80", b"\xfe", b"\xff", b"\xff\x00"]
        engine.commit({}, dict.fromkeys(reversed(keys), b""))
        assert [key for key, _ in engine.scan(b"\0", END, 100)] == keys

    @pytest.mark.parametrize(
        ("start", "end", "expected"),
        [
            (b"a", b"e", b"abcd"),
            (b"b", b"d", b"bc"),
            (b"b\0", b"d\0", b"cd"),
            (b"b", b"b", b""),
            (b"d", b"b", b""),
            (b"\0", b"a", b""),
            (b"e", b"z", b""),
            (b"a\xff", b"b\xff", b"b"),
        ],
    )
    def test_ranges_are_half_open(
        self, engine: Engine, start: bytes, end: bytes, expected: bytes
    ) -> None:
        engine.commit({}, {bytes([letter]): bytes([letter]) * 2 for letter in b"abcd"})
        rows = [(bytes([letter]), bytes([letter]) * 2) for letter in expected]
        assert engine.scan(start, end, 10) == rows
        assert engine.scan(start, end, 10, is_reverse=True) == rows[::-1]
        assert rows_of(engine, start, end) == rows

    def test_a_limit_cuts_from_the_side_it_scans_from(self, engine: Engine) -> None:
        keys = [b"%03d" % number for number in range(50)]
        engine.commit({}, {key: key for key in keys})
        for limit in (1, 2, 49, 50, 51):
            assert [k for k, _ in engine.scan(b"000", END, limit)] == keys[:limit]
            descending = engine.scan(b"000", END, limit, is_reverse=True)
            assert [k for k, _ in descending] == keys[::-1][:limit]
        assert [k for k, _ in engine.scan(b"010", b"012", 5)] == keys[10:12]
        assert [k for k, _ in engine.scan(b"010", b"012", 1, is_reverse=True)] == keys[11:12]

    def test_an_empty_engine_has_nothing(self, engine: Engine) -> None:
        assert engine.get([b"a"]) == [None]
        assert engine.scan(b"\0", END, 1) == []
        assert engine.scan(b"\0", END, 1, is_reverse=True) == []
        assert rows_of(engine) == []

    # ------------------------------------------------------------ commit

    def test_commit_puts_replaces_deletes_and_clears_at_once(self, engine: Engine) -> None:
        engine.commit({}, {b"k%d" % number: b"old" for number in range(8)})
        engine.commit(
            {b"k0": b"old", b"new": None},
            {b"k1": b"new", b"new": b"new", b"k2": b""},
            deletes=[b"k3", b"absent"],
            clears=[(b"k4", b"k7"), (b"x", b"y"), (b"k7", b"k7")],
        )
        assert rows_of(engine) == [
            (b"k0", b"old"),
            (b"k1", b"new"),
            (b"k2", b""),
            (b"k7", b"old"),
            (b"new", b"new"),
        ]

    @pytest.mark.parametrize(
        "checks",
        [
            {b"a": b"2"},
            {b"a": None},
            {b"a": b""},
            {b"b": b"1"},
            {b"b": b""},
            {b"a": b"1", b"b": b"1"},
            {b"b": None, b"a": b"11"},
        ],
    )
    def test_a_failed_check_writes_nothing(
        self, engine: Engine, checks: dict[bytes, bytes | None]
    ) -> None:
        engine.commit({}, {b"a": b"1", b"c": b"3", b"d": b"4"})
        before = rows_of(engine)
        with pytest.raises(Conflict):
            engine.commit(checks, {b"x": b"9"}, deletes=[b"c"], clears=[(b"d", b"e")])
        assert rows_of(engine) == before

    def test_a_key_may_be_checked_and_written_at_once(self, engine: Engine) -> None:
        engine.commit({b"a": None}, {b"a": b"1"})
        engine.commit({b"a": b"1"}, {b"a": b"2"})
        engine.commit({b"a": b"2"}, {}, deletes=[b"a"])
        engine.commit({b"a": None}, {})
        assert rows_of(engine) == []

    @pytest.mark.parametrize(
        "arguments",
        [
            ({b"a": b"1"}, [b"a"], []),
            ({b"b": b"1"}, [], [(b"a", b"c")]),
            ({}, [b"b"], [(b"b", b"b\0")]),
            ({}, [], [(b"a", b"c"), (b"b", b"d")]),
            ({}, [], [(b"b", b"a")]),
            ({b"": b"1"}, [], []),
        ],
        ids=["put+delete", "put+clear", "delete+clear", "clear+clear", "backwards", "empty key"],
    )
    def test_a_batch_that_contradicts_itself_is_our_bug(
        self,
        engine: Engine,
        arguments: tuple[dict[bytes, bytes], list[bytes], list[tuple[bytes, bytes]]],
    ) -> None:
        puts, deletes, clears = arguments
        engine.commit({}, {b"kept": b"1"})
        with pytest.raises(AssertionError):
            engine.commit({}, puts, deletes, clears)
        assert rows_of(engine) == [(b"kept", b"1")]

    def test_the_largest_key_and_value_fit(self, engine: Engine) -> None:
        limits = engine.limits
        keys = [bytes([1]) * limits.key_bytes_max, bytes([255]) * limits.key_bytes_max]
        value = bytes(range(256)) * (limits.value_bytes_max // 256)
        assert len(value) == limits.value_bytes_max
        engine.commit({}, dict.fromkeys(keys, value))
        assert engine.get(keys) == [value, value]
        assert engine.scan(keys[1], END * 100, 2, is_reverse=True) == [(keys[1], value)]
        engine.commit({keys[0]: value}, {}, deletes=[keys[0]])
        assert engine.get(keys) == [None, value]

    def test_a_full_batch_fits(self, engine: Engine) -> None:
        limits = engine.limits
        puts = {b"%08d" % number: b"v" for number in range(limits.batch_records_max)}
        engine.commit({}, puts)
        assert rows_of(engine) == sorted(puts.items())

    def test_what_is_over_a_limit_writes_nothing(self, engine: Engine) -> None:
        limits = engine.limits
        value_count = limits.batch_bytes_max // limits.value_bytes_max + 1
        value = bytes(limits.value_bytes_max)
        long_key = b"k" * (limits.key_bytes_max + 1)
        too_large: list[tuple[dict[bytes, bytes | None], dict[bytes, bytes], list[bytes]]] = [
            ({}, {b"a": b"1", long_key: b""}, []),
            ({}, {b"a": b"1"}, [long_key]),
            ({long_key: None}, {b"a": b"1"}, []),
            ({}, {b"a": b"1", b"b": value + b"1"}, []),
            ({}, {b"%08d" % number: b"" for number in range(limits.batch_records_max + 1)}, []),
            ({}, {b"%08d" % number: value for number in range(value_count)}, []),
        ]
        for checks, puts, deletes in too_large:
            with pytest.raises(TooLarge):
                engine.commit(checks, puts, deletes)
        assert rows_of(engine) == []

    def test_a_commit_of_checks_alone_writes_nothing(self, engine: Engine) -> None:
        engine.commit({b"a": None}, {})
        with pytest.raises(Conflict):
            engine.commit({b"a": b"1"}, {})
        assert rows_of(engine) == []

    # ------------------------------------------------------------ export

    def test_export_is_one_moment_while_commits_go_on(self, engine: Engine) -> None:
        before = {b"%05d" % number: b"old" for number in range(5000)}
        engine.commit({}, before)
        export = engine.export(b"\0", END)
        # The moment is that of the call, not that of the first page.
        engine.commit({}, {b"00000": b"new", b"99999": b"new"}, deletes=[b"04999"])
        seen = list(next(export))
        engine.commit({}, {b"04000": b"new"}, clears=[(b"02000", b"03000")])
        for page in export:
            assert page
            seen += page
            engine.commit({}, {b"%05d" % len(seen): b"newer"})
        assert seen == sorted(before.items())
        assert len(rows_of(engine)) == 5000 - 1 + 1 - 1000 + 2

    def test_an_export_may_be_left_and_goes_on_in_other_threads(self, engine: Engine) -> None:
        engine.commit({}, {b"%05d" % number: b"" for number in range(3500)})
        for _ in range(300):
            left = engine.export(b"\0", END)
            next(left)
            left.close()  # type: ignore[attr-defined]
            engine.export(b"\0", END)
        export = engine.export(b"\0", END)
        counts: list[int] = []
        for _ in range(4):
            run_threads([lambda: counts.append(len(next(export)))])
        assert sum(counts) == 3500
        assert next(export, None) is None

    # ------------------------------------------------------------ wait

    def test_wait_returns_at_once_what_is_no_longer_seen(self, engine: Engine) -> None:
        engine.commit({}, {b"a": b"2"})
        assert engine.wait(b"a", b"1", 30) == b"2"
        assert engine.wait(b"a", None, 30) == b"2"
        assert engine.wait(b"b", b"1", 30) is None

    def test_wait_gives_up_after_its_timeout(self, engine: Engine) -> None:
        engine.commit({}, {b"a": b"1"})
        started_s = time.monotonic()
        assert engine.wait(b"a", b"1", 0.05) == b"1"
        assert engine.wait(b"b", None, 0) is None
        assert 0.05 <= time.monotonic() - started_s < 10

    def test_wait_hears_of_a_commit(self, engine: Engine) -> None:
        heard: list[bytes | None] = []

        def listen() -> None:
            heard.append(engine.wait(b"a", None, 30))

        def write() -> None:
            engine.commit({}, {b"b": b"other"})
            engine.commit({}, {b"a": b"1"})

        run_threads([listen, write])
        assert heard == [b"1"]

    # ------------------------------------------------------------ many at once

    def test_racing_counters_lose_no_count(self, engine: Engine) -> None:
        """Each thread raises a shared counter by compare and swap, and writes a row of its own with
        every success."""
        rounds, thread_count = 40, 6

        def count(thread: int) -> None:
            done = 0
            while done < rounds:
                [seen] = engine.get([b"counter"])
                value = int(seen or b"0") + 1
                try:
                    engine.commit(
                        {b"counter": seen}, {b"counter": b"%d" % value, b"r%06d" % value: b""}
                    )
                except Conflict:
                    continue
                done += 1
                assert engine.get([b"r%06d" % value]) == [b""]

        run_threads([lambda thread=thread: count(thread) for thread in range(thread_count)])
        total = rounds * thread_count
        assert engine.get([b"counter"]) == [b"%d" % total]
        assert len(engine.scan(b"r", b"s", total + 1)) == total

    def test_readers_never_see_half_a_batch(self, engine: Engine) -> None:
        keys = [b"%02d" % number for number in range(20)]
        engine.commit({}, dict.fromkeys(keys, b"0"))
        is_done = threading.Event()

        def write() -> None:
            try:
                for number in range(1, 60):
                    engine.commit({}, dict.fromkeys(keys, b"%d" % number))
            finally:
                is_done.set()

        def read() -> None:
            while not is_done.is_set():
                assert len(set(engine.get(keys))) == 1
                assert len({value for _, value in engine.scan(b"0", b"9", 20)}) == 1
                assert len({value for _, value in rows_of(engine)}) == 1

        run_threads([write, read, read])

    def test_a_takeover_fences_the_owner_before(self, engine: Engine) -> None:
        """Owners write numbered batches under a fence of (shard epoch, number); each takes over
        from the one before by raising the epoch. Whoever was fenced writes nothing more (I7)."""
        engine.commit({}, {FENCE: b"0 0"})
        acknowledged: list[tuple[int, int]] = []

        def own(shard_epoch: int) -> None:
            number = first = take_over(shard_epoch)
            # The last owner has nobody to be fenced by.
            while shard_epoch < owner_count or number < first + 30:
                fence, row = b"%d %d" % (shard_epoch, number), b"row %06d" % (number + 1)
                next_fence = b"%d %d" % (shard_epoch, number + 1)
                try:
                    engine.commit(
                        {FENCE: fence, row: None}, {FENCE: next_fence, row: b"%d" % shard_epoch}
                    )
                except Conflict:
                    return
                number += 1
                acknowledged.append((number, shard_epoch))

        def take_over(shard_epoch: int) -> int:
            """Wait until the owner before has written a while, then race with its commits."""
            while True:
                [fence] = engine.get([FENCE])
                assert fence is not None
                owner, number = map(int, fence.split())
                if owner < shard_epoch - 1 or number < 30 * owner:
                    engine.wait(FENCE, fence, 10)
                    continue
                try:
                    engine.commit({FENCE: fence}, {FENCE: b"%d %d" % (shard_epoch, number)})
                except Conflict:
                    continue
                return number

        owner_count = 5
        run_threads([lambda shard_epoch=n: own(shard_epoch) for n in range(1, owner_count + 1)])
        rows = rows_of(engine, b"row", b"rox")
        assert [(int(key[4:]), int(value)) for key, value in rows] == sorted(acknowledged)
        owners = [int(value) for _, value in rows]
        assert owners == sorted(owners)
        assert {1, owner_count} <= set(owners)
        assert [int(key[4:]) for key, _ in rows] == list(range(1, len(rows) + 1))
        assert engine.get([FENCE]) == [b"%d %d" % (owner_count, len(rows))]

    # ------------------------------------------------------------ against a model

    @settings(
        max_examples=60,
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.differing_executors,
            HealthCheck.too_slow,
        ],
    )
    @given(data=st.data())
    def test_it_is_a_sorted_dict(self, engine: Engine, data: st.DataObject) -> None:
        engine.commit({}, {}, clears=[(b"\0", END)])
        model: dict[bytes, bytes] = {}
        for _ in range(data.draw(st.integers(1, 12))):
            _commit_to_both(engine, model, data)
            _compare_reads(engine, model, data)
        assert rows_of(engine) == sorted(model.items())

    def test_close_may_be_repeated(self, make_engine: Callable[[], Engine]) -> None:
        engine = make_engine()
        engine.commit({}, {b"a": b"1"})
        engine.close()
        engine.close()
        with pytest.raises(AssertionError, match="used after close"):
            engine.get([b"a"])


_keys = st.binary(min_size=1, max_size=3).map(lambda key: bytes(byte % 5 for byte in key))
_values = st.one_of(st.none(), st.binary(max_size=4), st.just(b"v" * 9000))


def _commit_to_both(engine: Engine, model: dict[bytes, bytes], data: st.DataObject) -> None:
    written = data.draw(st.dictionaries(_keys, _values, max_size=8))
    low, high = sorted(data.draw(st.tuples(_keys, _keys)))
    is_clearing = data.draw(st.booleans()) and not any(low <= key < high for key in written)
    checked = data.draw(st.lists(_keys, max_size=2))
    is_conflict_wanted = bool(checked) and data.draw(st.booleans())
    checks = {key: model.get(key) for key in checked}
    if is_conflict_wanted:
        checks[checked[0]] = (model.get(checked[0]) or b"") + b"!"
    puts = {key: value for key, value in written.items() if value is not None}
    deletes = [key for key, value in written.items() if value is None]
    clears = [(low, high)] if is_clearing else []
    if is_conflict_wanted:
        with pytest.raises(Conflict):
            engine.commit(checks, puts, deletes, clears)
        return
    engine.commit(checks, puts, deletes, clears)
    for key in [key for key in model if is_clearing and low <= key < high] + deletes:
        model.pop(key, None)
    model.update(puts)


def _compare_reads(engine: Engine, model: dict[bytes, bytes], data: st.DataObject) -> None:
    start, end = data.draw(st.tuples(_keys, _keys))
    limit = data.draw(st.integers(1, 6))
    rows = sorted(row for row in model.items() if start <= row[0] < end)
    assert engine.scan(start, end, limit) == rows[:limit]
    assert engine.scan(start, end, limit, is_reverse=True) == rows[::-1][:limit]
    assert rows_of(engine, start, end) == rows
    asked = data.draw(st.lists(_keys, max_size=4))
    assert engine.get(asked) == [model.get(key) for key in asked]
