"""Batches at and beyond their limits, and those that contradict themselves."""

from __future__ import annotations

import pytest

from dfs.engine.api import EngineLimits, TooLarge
from dfs.engine.embedded import Batch, checked_batch

LIMITS = EngineLimits(key_bytes_max=4, value_bytes_max=8, batch_records_max=3, batch_bytes_max=20)


def make_batch(
    *,
    checks: dict[bytes, bytes | None] | None = None,
    puts: dict[bytes, bytes] | None = None,
    deletes: tuple[bytes, ...] = (),
    clears: tuple[tuple[bytes, bytes], ...] = (),
) -> Batch:
    return Batch(checks or {}, puts or {}, frozenset(deletes), clears)


@pytest.mark.parametrize(
    "batch",
    [
        make_batch(),
        make_batch(checks={b"abcd": b"longer than any value may be"}),
        make_batch(puts={b"abcd": bytes(8)}),
        make_batch(puts={b"a": bytes(8), b"b": bytes(8), b"c": b"1"}),
        make_batch(puts={b"a": b""}, deletes=(b"c",), clears=((b"b", b"c"),)),
        make_batch(puts={b"a": b"", b"c": b""}, clears=((b"a\0", b"c"),)),
        make_batch(clears=((b"b", b"c"), (b"a", b"b"), (b"c", b"c"))),
    ],
)
def test_a_batch_within_its_limits_is_left_as_it_is(batch: Batch) -> None:
    assert checked_batch(batch, LIMITS) is batch


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (make_batch(checks={b"abcde": None}), "a key has 5 bytes, at most 4"),
        (make_batch(puts={b"abcde": b""}), "a key has 5 bytes, at most 4"),
        (make_batch(deletes=(b"abcde",)), "a key has 5 bytes, at most 4"),
        (make_batch(puts={b"a": bytes(9)}), "a value has 9 bytes, at most 8"),
        (
            make_batch(puts={b"a": bytes(8), b"b": bytes(8)}, deletes=(b"abc",)),
            "a batch has 21 bytes, at most 20",
        ),
        (
            make_batch(puts={b"a": b"", b"b": b""}, deletes=(b"c",), clears=((b"d", b"e"),)),
            "a batch has 4 records, at most 3",
        ),
    ],
)
def test_what_is_too_large_is_refused_with_both_numbers(batch: Batch, message: str) -> None:
    with pytest.raises(TooLarge, match=f"^{message}$"):
        checked_batch(batch, LIMITS)


@pytest.mark.parametrize(
    "batch",
    [
        make_batch(puts={b"a": b""}, deletes=(b"a",)),
        make_batch(puts={b"b": b""}, clears=((b"a", b"c"),)),
        make_batch(deletes=(b"b",), clears=((b"b", b"b\0"),)),
        make_batch(clears=((b"a", b"c"), (b"b", b"d"))),
        make_batch(clears=((b"b", b"a"),)),
        make_batch(checks={b"": None}),
    ],
)
def test_a_key_is_written_in_one_way_only(batch: Batch) -> None:
    with pytest.raises(AssertionError):
        checked_batch(batch, LIMITS)
