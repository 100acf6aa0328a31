"""The process that `test_lmdb_kill.py` kills: commits numbered batches and reports each.

`python -m tests.cluster.lmdb_committer DIRECTORY` writes "opening" before it opens the engine, then
the number of each batch when its commit has returned. What the store holds after batch n is a
function of n alone, so any mixture of two states is found.
"""

from __future__ import annotations

import sys

from dfs.engine.lmdb_engine import LmdbEngine

FENCE = b"fence"
KEPT_BATCHES = 30
MAP_BYTES = 256 * 1024
"""Small, so that the map grows now and then."""


def open_engine(directory: str) -> LmdbEngine:
    return LmdbEngine(directory, map_bytes_min=MAP_BYTES)


def prefix(number: int) -> bytes:
    return b"batch %08d " % number


def rows_of_batch(number: int) -> dict[bytes, bytes]:
    """Some small rows, and now and then one of many pages."""
    rows = {prefix(number) + b"%02d" % row: b"%d" % number * 40 for row in range(number % 17 + 1)}
    if number % 5 == 0:
        rows[prefix(number) + b"large"] = b"%d" % number * (3000 + number % 9000)
    return rows


def deleted_by_batch(number: int) -> list[bytes]:
    return sorted(rows_of_batch(number - 3))[::2] if number > 3 else []


def cleared_by_batch(number: int) -> list[tuple[bytes, bytes]]:
    """What is older than KEPT_BATCHES."""
    if number <= KEPT_BATCHES:
        return []
    return [(prefix(number - KEPT_BATCHES), prefix(number - KEPT_BATCHES + 1))]


def state_after(number: int) -> dict[bytes, bytes]:
    """Everything but the fence after batches 1 … number."""
    state: dict[bytes, bytes] = {}
    for batch in range(max(1, number - KEPT_BATCHES + 1), number + 1):
        state |= rows_of_batch(batch)
    for batch in range(max(1, number - KEPT_BATCHES + 1), number + 1):
        for key in deleted_by_batch(batch):
            state.pop(key, None)
    return state


def read_fence(engine: LmdbEngine) -> tuple[int, int]:
    """(shard epoch, number of the last batch)."""
    [fence] = engine.get([FENCE])
    shard_epoch, number = map(int, (fence or b"0 0").split())
    return shard_epoch, number


def commit_on(engine: LmdbEngine) -> None:
    """Take the store over, then commit batch after batch, for ever."""
    [before] = engine.get([FENCE])
    shard_epoch, number = read_fence(engine)
    fence = b"%d %d" % (shard_epoch + 1, number)
    engine.commit({FENCE: before}, {FENCE: fence})
    while True:
        number += 1
        next_fence = b"%d %d" % (shard_epoch + 1, number)
        engine.commit(
            {FENCE: fence},
            rows_of_batch(number) | {FENCE: next_fence},
            deleted_by_batch(number),
            cleared_by_batch(number),
        )
        fence = next_fence
        print(number, flush=True)


if __name__ == "__main__":
    print("opening", flush=True)
    commit_on(open_engine(sys.argv[1]))
