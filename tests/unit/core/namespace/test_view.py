"""Goal: an overlay shows exactly what its base will show once the changes are in it. Method: every
page of random bases and changes, both directions, stacked twice; and what `Together` asks for.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfs.core.namespace.records import Dentry, Inode, Orphan, Record, Xattr
from dfs.core.namespace.view import Missing, Overlay, ScanRange, Together
from tests.unit.core.namespace.volume import Forgetful, Records, with_fetches

KEYS = [b"k%d" % number for number in range(8)]
changes = st.dictionaries(st.sampled_from(KEYS), st.none() | st.binary(max_size=1).map(Xattr))
ranges = st.builds(
    ScanRange,
    st.sampled_from([b"", *KEYS]),
    st.sampled_from([*KEYS, b"z"]),
    st.integers(1, 9),
    st.booleans(),
)


def _overlay(base: Records | Overlay, changed: dict[bytes, Record | None]) -> Overlay:
    overlay = Overlay(base)
    for key, record in changed.items():
        if record is None:
            overlay.delete(key)
        else:
            overlay.put(key, record)
    return overlay


def _merged(*layers: dict[bytes, Record | None]) -> Records:
    merged: dict[bytes, Record | None] = {}
    for layer in layers:
        merged.update(layer)
    return Records({key: record for key, record in merged.items() if record is not None})


@given(changes, changes, changes, ranges)
def test_stacked_overlays_show_the_merged_records(
    base: dict[bytes, Record | None],
    first: dict[bytes, Record | None],
    second: dict[bytes, Record | None],
    page: ScanRange,
) -> None:
    records = _merged(base)
    before = dict(records.records)
    overlay = _overlay(_overlay(records, first), second)
    expected = _merged(base, first, second)
    assert overlay.scan(page, Xattr) == expected.scan(page, Xattr)
    assert [overlay.get(k, Xattr) for k in KEYS] == [expected.get(k, Xattr) for k in KEYS]
    assert records.records == before


@given(changes, changes, ranges)
def test_an_overlay_asks_only_for_what_it_needs(
    base: dict[bytes, Record | None], changed: dict[bytes, Record | None], page: ScanRange
) -> None:
    expected = _merged(base, changed)
    rows = with_fetches(_merged(base), lambda view: _overlay_over(view, changed).scan(page, Xattr))
    assert rows == expected.scan(page, Xattr)


def _overlay_over(view: object, changed: dict[bytes, Record | None]) -> Overlay:
    return _overlay(view, changed)  # type: ignore[arg-type]


def test_a_page_before_a_far_change_is_not_disturbed() -> None:
    base = Records({key: Xattr(b"") for key in KEYS})
    overlay = _overlay(base, {b"k7": Xattr(b"new"), b"k0": None})
    assert [k for k, _ in overlay.scan(ScanRange(b"", b"z", 2), Xattr)] == [b"k1", b"k2"]
    last = overlay.scan(ScanRange(b"", b"z", 1, is_reverse=True), Xattr)
    assert last == [(b"k7", Xattr(b"new"))]


def test_changes_read_back_and_deletion_hides() -> None:
    overlay = _overlay(Records({b"a": Orphan()}), {b"b": Xattr(b"1"), b"a": None})
    assert overlay.get(b"a", Orphan) is None
    assert overlay.get(b"b", Xattr) == Xattr(b"1")
    assert overlay.changes == {b"b": Xattr(b"1"), b"a": None}


def test_a_record_of_another_type_is_our_bug() -> None:
    overlay = _overlay(Records(), {b"a": Orphan()})
    with pytest.raises(AssertionError):
        overlay.get(b"a", Xattr)
    with pytest.raises(AssertionError):
        overlay.scan(ScanRange(b"", b"z", 1), Xattr)


def test_together_asks_for_everything_at_once() -> None:
    view = Forgetful(Records({b"a": Dentry(ino=1, file_type=2)}))
    page = ScanRange(b"", b"z", 3)
    with pytest.raises(Missing) as caught:
        _read_all(view, page)
    assert caught.value.keys == (b"a", b"b")
    assert caught.value.ranges == (page,)
    view.fetch(caught.value)
    with Together(view) as reads:
        found = reads.get(b"a", Dentry)
        rows = reads.scan(page, Dentry)
    assert found == Dentry(ino=1, file_type=2)
    assert rows == [(b"a", found)]


def _read_all(view: Forgetful, page: ScanRange) -> None:
    with Together(view) as reads:
        assert reads.get(b"a", Dentry) is None
        assert reads.get(b"b", Inode) is None
        assert reads.get(b"a", Dentry) is None
        assert reads.scan(page, Dentry) == []


def test_together_lets_errors_through() -> None:
    with pytest.raises(KeyError):
        _read_and_fail()


def _read_and_fail() -> None:
    with Together(Forgetful(Records())) as reads:
        reads.get(b"a", Dentry)
        raise KeyError


def test_missing_names_something() -> None:
    with pytest.raises(AssertionError):
        Missing()
