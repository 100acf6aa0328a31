"""Goal: damage on a chunk server's disk is seen, survived and repaired, never served (I2).

Method: stop the cluster, damage a server's files the way disks do, start it again, read everything
through the mount, and let fsck read every byte.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.conftest import Cluster

pytestmark = pytest.mark.cluster

MIB = 1 << 20


def write_files(cluster: Cluster, seed: int) -> dict[str, bytes]:
    """Ten files of about a MiB; what they hold."""
    chooser = random.Random(seed)
    contents = {f"d{seed}-{n}": chooser.randbytes(MIB + n * 1000) for n in range(10)}
    for name, content in contents.items():
        with open(cluster.mountpoint / name, "wb") as file:
            file.write(content)
            os.fsync(file.fileno())
    return contents


def assert_readable(cluster: Cluster, contents: dict[str, bytes]) -> None:
    cluster.remount()
    for name, content in contents.items():
        assert (cluster.mountpoint / name).read_bytes() == content, name


def segments(cluster: Cluster, role: str) -> list[Path]:
    """The server's segment files, largest last."""
    files = [p for p in (cluster.dir / role).rglob("*") if p.is_file() and "segment" in str(p)]
    assert files
    return sorted(files, key=lambda path: path.stat().st_size)


def test_flipped_bytes_are_repaired_on_read(cluster: Cluster) -> None:
    contents = write_files(cluster, 1)
    cluster.down()
    path = segments(cluster, "chunk-0")[-1]
    size = path.stat().st_size
    chooser = random.Random(3)
    with open(path, "r+b") as file:
        for _ in range(12):
            file.seek(chooser.randrange(size // 10, size - 100))
            file.write(chooser.randbytes(3))
    cluster.up()
    assert_readable(cluster, contents)
    cluster.fsck("--repair", "--verify-data")
    cluster.fsck("--verify-data")
    assert_readable(cluster, contents)


def test_truncated_segment(cluster: Cluster) -> None:
    contents = write_files(cluster, 2)
    cluster.down()
    path = segments(cluster, "chunk-1")[-1]
    os.truncate(path, path.stat().st_size * 2 // 3)
    cluster.up()
    assert_readable(cluster, contents)
    cluster.fsck("--repair", "--verify-data")
    cluster.fsck("--verify-data")


def test_damaged_index_is_rebuilt(cluster: Cluster) -> None:
    contents = write_files(cluster, 3)
    cluster.down()
    (index,) = (cluster.dir / "chunk-2").rglob("data.mdb")
    index.write_bytes(b"damaged" * 10_000)
    cluster.up()
    assert_readable(cluster, contents)
    cluster.fsck("--verify-data")
