"""I6 and the rules of the namespace, over every row of the metadata server's engine.

Once every session has ended nothing may be left over either: no orphan, no garbage, no session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfs.core.namespace import keys
from dfs.core.namespace.invariants import RecordChecker

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dfs.engine.api import Row

LEFT_OVER = {keys.ORPHAN: "orphan", keys.GARBAGE: "garbage", keys.SESSION: "session"}


def check_records(rows: Iterable[Row], *, is_idle: bool) -> str:
    """What is wrong with the records (I6); empty for a sound volume. Idle: nobody uses it, and has
    not for long."""
    checker = RecordChecker()
    left: list[str] = []
    for key, value in rows:
        checker.add(key, value)
        kind = LEFT_OVER.get(keys.table_of(key))
        if is_idle and kind is not None:
            left.append(f"{kind} {key[3:].hex()} is left over")
    found = [f"{each.check}: {each.message}" for each in checker.finish(set()) if each.is_error]
    return "; ".join((found + left)[:5])
