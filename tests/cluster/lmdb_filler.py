"""Fills a small disk with an LMDB engine, for `test_lmdb_full_disk.py`. Runs in a mount namespace.

`python -m tests.cluster.lmdb_filler DIRECTORY`: mounts a tmpfs there, so that what it does to the
mount is gone with it. Exits with 0 if all that it looks at is right.
"""

from __future__ import annotations

import subprocess
import sys

from dfs.engine.lmdb_engine import LmdbEngine
from dfs.errors import NoSpace

END = b"\xff"
ROWS = {b"%02d" % row: b"v" * 300 for row in range(20)}


def fill(engine: LmdbEngine) -> int:
    """Commit until the disk is full. How many batches there are then."""
    count = len(engine.scan(b"batch", b"batci", 100_000))
    while True:
        rows = {b"row %06d %s" % (count, key): value for key, value in ROWS.items()}
        try:
            engine.commit({}, rows | {b"batch %06d" % count: b""})
        except NoSpace:
            return count
        count += 1


def check(engine: LmdbEngine, count: int) -> None:
    """Exactly `count` whole batches are there."""
    expected = {b"batch %06d" % batch: b"" for batch in range(count)}
    for batch in range(count):
        expected |= {b"row %06d %s" % (batch, key): value for key, value in ROWS.items()}
    rows = dict(row for page in engine.export(b"batch", END) for row in page)
    assert rows == expected


def main(directory: str) -> None:
    mount = ["mount", "-t", "tmpfs", "-o"]
    subprocess.run([*mount, "size=1m", "tmpfs", directory], check=True)
    engine = LmdbEngine(directory)
    count = fill(engine)
    assert count > 20
    check(engine, count)
    # A full store refuses and goes on; nothing piles up.
    for _ in range(20):
        assert fill(engine) == count
    check(engine, count)
    engine.close()
    again = LmdbEngine(directory)
    check(again, count)
    subprocess.run([*mount, "remount,size=4m", "tmpfs", directory], check=True)
    more = fill(again)
    assert more > 2 * count
    check(again, more)
    again.close()
    print(count, more)


if __name__ == "__main__":
    main(sys.argv[1])
