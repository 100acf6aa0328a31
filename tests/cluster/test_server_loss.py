"""Goal: with 3 chunk servers and 2 copies, an application does not notice the loss of one (I1, I2).

Method: a file is written and read through the mount while one chunk server is stopped for good in
the middle; every byte is compared, and no system call may fail.
"""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cluster.conftest import Cluster

pytestmark = pytest.mark.cluster

MIB = 1 << 20
PIECES = 96


def test_losing_a_server_while_writing_and_reading(cluster: Cluster) -> None:
    chooser = random.Random(11)
    path = cluster.mountpoint / "big"
    written = hashlib.sha256()
    with open(path, "wb", buffering=0) as file:
        for number in range(PIECES):
            if number == PIECES // 2:
                cluster.stop("chunk-1")
            piece = chooser.randbytes(MIB)
            assert file.write(piece) == MIB
            written.update(piece)
    cluster.resume("chunk-1")
    cluster.wait_healthy(timeout_s=30)
    read = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        for number in range(PIECES):
            if number == PIECES // 3:
                cluster.stop("chunk-2")
            piece = file.read(MIB)
            assert len(piece) == MIB
            read.update(piece)
    assert read.digest() == written.digest()
    cluster.resume("chunk-2")
    cluster.wait_healthy(timeout_s=30)
    cluster.fsck("--verify-data")
