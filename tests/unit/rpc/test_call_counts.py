"""Goal: counts of several links add up, and those that were added stay as they are."""

from __future__ import annotations

from dfs.rpc.call_counts import CallCounts


def test_counts_add_up() -> None:
    one, other, both = CallCounts(), CallCounts(), CallCounts()
    one.sent["Lookup"] += 2
    one.note_answer("Lookup", 0.25)
    other.sent["Lookup"] += 1
    other.note_answer("Lookup", 0.5)
    other.sent["GetAttr"] += 1
    for counts in (one, other):
        both.add(counts)
    assert both.sent == {"Lookup": 3, "GetAttr": 1}
    assert both.answered == {"Lookup": 2}
    assert both.waited_ns == {"Lookup": 750_000_000}
    assert one.sent == {"Lookup": 2}
