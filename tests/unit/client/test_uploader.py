"""Goal: zeros are told from data; few copies are said once; ENOSPC is said only when it is so."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from dfs.chunk.store_memory import MemoryStore
from dfs.client.uploader import is_zero
from dfs.types import ROOT
from tests.unit.client.rig import BLOCK, ROOT_USER, cluster, pattern

if TYPE_CHECKING:
    import pytest


@given(st.binary(min_size=1, max_size=300))
def test_is_zero(plain: bytes) -> None:
    assert is_zero(plain) == (plain == bytes(len(plain)))


def test_a_single_byte_makes_a_difference() -> None:
    plain = bytearray(BLOCK)
    assert is_zero(plain)
    plain[12345] = 1
    assert not is_zero(plain)


async def test_too_few_copies_are_said_once_and_their_end_too(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dfs.client.uploader")
    async with cluster(chunk_count=2, min_copies=1) as rig, rig.client() as client:
        handle, _ = await client.create(ROOT, b"f", 0o644, ROOT_USER)
        rig.chunks[0].kill()
        for number in range(4):
            await client.write(handle, number * BLOCK, pattern(BLOCK, number))
            await client.fsync(handle)
        await rig.chunks[0].start()
        await trio.sleep(30)
        for number in range(4, 8):
            await client.write(handle, number * BLOCK, pattern(BLOCK, number))
            await client.fsync(handle)
        await client.release(handle)
    said = [record.getMessage() for record in caplog.records]
    assert [line for line in said if "1 of 2 copies" in line and "chunk0:1" in line] == said[:1]
    assert "blocks are stored in all 2 copies again" in said


async def test_a_full_server_beside_one_left_alone_is_no_lack_of_space(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A round counts only on who answered lately; the others may still have room."""
    async with cluster(chunk_count=3, min_copies=2) as rig, rig.client() as client:
        full, _, left_alone = rig.chunks
        full.kill()
        full.store = MemoryStore(capacity_bytes=1)
        await trio.sleep(0.1)
        await full.start()
        servers = {server.server_id: server for server in client.cluster_map.servers}
        handle, _ = await client.create(ROOT, b"f", 0o644, ROOT_USER)
        for number in range(8):
            client._links.avoid(servers[left_alone.server_id])
            client._links._doubts.pop(full.server_id, None)
            await client.write(handle, number * BLOCK, pattern(BLOCK, number))
            await client.fsync(handle)
        await client.release(handle)
