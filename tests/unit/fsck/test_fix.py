"""Goal: a repair is written only over what was checked, and none of a commit disturbs another.

Method: a metadata server that is a dict; chunk servers are in test_copies.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dfs.core.namespace import keys
from dfs.core.namespace.census import Finding
from dfs.core.namespace.records import BlockRef, Garbage, encode_record
from dfs.fsck.fix import TOGETHER_MAX, keys_of, repair_records
from dfs.types import BlockId

if TYPE_CHECKING:
    from collections.abc import Mapping


class Records:
    """Writes as the metadata server does."""

    def __init__(self, rows: Mapping[bytes, bytes]) -> None:
        self.rows = dict(rows)
        self.commits: list[set[bytes]] = []

    async def repair(
        self, checks: Mapping[bytes, bytes | None], puts: Mapping[bytes, bytes | None]
    ) -> bool:
        if any(self.rows.get(key) != value for key, value in checks.items()):
            return False
        self.commits.append(set(puts))
        for key, value in puts.items():
            if value is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = value
        return True


def _block(number: int) -> BlockId:
    return BlockId(number.to_bytes(32, "big"))


def _count(number: int, count: int) -> Finding:
    key = keys.block_key(_block(number))
    return Finding("count", key, f"count {number}", repair={key: BlockRef(count, 5)})


def _mark(number: int) -> Finding:
    key, relied = keys.garbage_key(_block(number)), keys.block_key(_block(number))
    return Finding("mark", key, f"mark {number}", repair={key: Garbage()}, relies_on=(relied,))


def _rows(count: int) -> dict[bytes, bytes]:
    return {keys.block_key(_block(n)): encode_record(BlockRef(9, 5)) for n in range(count)}


async def _repair(records: Records, findings: list[Finding], seen: dict[bytes, bytes]) -> list[str]:
    metadata: Any = records
    return await repair_records(metadata, findings, seen)


async def test_many_in_one_commit() -> None:
    seen = _rows(TOGETHER_MAX + 3)
    records = Records(seen)
    findings = [_count(number, 2) for number in range(TOGETHER_MAX + 3)]
    done = await _repair(records, findings, seen)
    assert done == [finding.message for finding in findings]
    assert [len(commit) for commit in records.commits] == [TOGETHER_MAX, 3]
    assert set(records.rows.values()) == {encode_record(BlockRef(2, 5))}


async def test_what_changed_meanwhile_is_left_alone() -> None:
    seen = _rows(3)
    records = Records(seen)
    changed = encode_record(BlockRef(10, 5))
    records.rows[keys.block_key(_block(1))] = changed
    assert await _repair(records, [_count(n, 2) for n in range(3)], seen) == ["count 0", "count 2"]
    assert records.rows[keys.block_key(_block(1))] == changed


async def test_what_came_meanwhile_is_left_alone() -> None:
    records = Records(_rows(1))
    assert await _repair(records, [_count(0, 2)], {}) == []
    assert records.rows == _rows(1)


async def test_what_a_repair_relies_on_must_still_be_so() -> None:
    """A block that was named again meanwhile does not get into the garbage queue (I6)."""
    seen = _rows(1)
    records = Records({keys.block_key(_block(0)): encode_record(BlockRef(10, 5))})
    assert keys_of(_mark(0)) == {keys.block_key(_block(0)), keys.garbage_key(_block(0))}
    assert await _repair(records, [_mark(0)], seen) == []
    assert await _repair(Records(seen), [_mark(0)], seen) == ["mark 0"]


async def test_none_touches_what_another_one_of_the_pass_relies_on() -> None:
    for findings in ([_mark(0), _count(0, 2)], [_count(0, 2), _mark(0)], [_mark(0), _mark(0)]):
        seen = _rows(1)
        assert await _repair(Records(seen), findings, seen) == [findings[0].message]


async def test_warnings_and_what_has_no_repair() -> None:
    key = keys.block_key(_block(0))
    warning = Finding("x", key, "warning", is_error=False, repair={key: None})
    seen = _rows(1)
    records = Records(seen)
    assert await _repair(records, [warning, Finding("x", key, "no repair")], seen) == []
    assert records.commits == []


async def test_deleting() -> None:
    key = keys.block_key(_block(0))
    seen = _rows(1)
    records = Records(seen)
    assert await _repair(records, [Finding("x", key, "gone", repair={key: None})], seen) == ["gone"]
    assert records.rows == {}
