"""Goal: what servers say becomes what is known of each block; bounded, and exact when one is lost.

Method: servers that answer from a dict.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from dfs.errors import Disconnected
from dfs.fsck.presence import ABSENT_BLOCKS_AT_ONCE, VERIFY_BLOCKS_AT_ONCE, Presence, batches
from dfs.fsck.report import ignore_progress
from dfs.limits import HAS_BLOCKS_MAX
from dfs.types import BlockId

if TYPE_CHECKING:
    from collections.abc import Sequence


def _ids(count: int) -> list[BlockId]:
    return [BlockId(number.to_bytes(32, "big")) for number in range(count)]


class Answering:
    """Chunk servers: id → block → verdict. `fails_after` requests a server is gone."""

    def __init__(self, servers: dict[str, dict[BlockId, str]]) -> None:
        self.servers = servers
        self.server_ids = tuple(servers)
        self.fails_after: dict[str, int] = {}
        self.lost: list[str] = []
        self.largest = 0

    def is_answering(self, server_id: str) -> bool:
        return server_id not in self.lost

    def put_aside(self, server_id: str, error: Exception) -> None:
        self.lost.append(server_id)

    async def has(self, server_id: str, block_ids: Sequence[BlockId]) -> tuple[bool, ...]:
        await self._work(server_id, block_ids)
        return tuple(self.servers[server_id].get(one) == "good" for one in block_ids)

    async def verify(self, server_id: str, block_ids: Sequence[BlockId]) -> tuple[str, ...]:
        await self._work(server_id, block_ids)
        return tuple(self.servers[server_id].get(one, "absent") for one in block_ids)

    async def _work(self, server_id: str, block_ids: Sequence[BlockId]) -> None:
        await trio.lowlevel.checkpoint()
        self.largest = max(self.largest, len(block_ids))
        left = self.fails_after.get(server_id)
        if left == 0:
            raise Disconnected(f"{server_id} is gone")
        if left is not None:
            self.fails_after[server_id] = left - 1


def _presence(answering: Answering, block_ids: list[BlockId]) -> Presence:
    servers: Any = answering
    return Presence(servers, block_ids)


async def test_what_servers_say_is_what_is_known() -> None:
    first, second, third = _ids(3)
    answering = Answering(
        {"a": {first: "good", second: "corrupt"}, "b": {first: "good", third: "corrupt"}}
    )
    presence = _presence(answering, [third, first, second])
    await presence.ask([first, second, third], ignore_progress)
    assert list(presence.good) == [first, second, third]
    assert presence.good_at(first) == ["a", "b"]
    assert presence.good_at(second) == presence.good_at(third) == []
    assert presence.bad == {}
    await presence.verify([first, second, third], ignore_progress)
    assert presence.copies == 2
    assert presence.bad_at(second) == ["a"]
    assert presence.bad_at(third) == ["b"]


async def test_asking_again_forgets_what_was() -> None:
    [block_id] = _ids(1)
    answering = Answering({"a": {block_id: "corrupt"}, "b": {block_id: "good"}})
    presence = _presence(answering, [block_id])
    await presence.ask([block_id], ignore_progress)
    await presence.verify([block_id], ignore_progress)
    assert presence.bad_at(block_id) == ["a"]
    answering.servers = {"a": {block_id: "good"}, "b": {}}
    await presence.ask([block_id], ignore_progress)
    assert (presence.good_at(block_id), presence.bad) == (["a"], {})
    await presence.verify([block_id], ignore_progress)
    assert (presence.good_at(block_id), presence.bad) == (["a"], {})
    presence.forget([block_id])
    assert (presence.good, presence.copies) == ({}, 0)


async def test_requests_are_bounded() -> None:
    block_ids = _ids(HAS_BLOCKS_MAX + 10)
    answering = Answering({"a": dict.fromkeys(block_ids, "good"), "b": {}})
    presence = _presence(answering, block_ids)
    await presence.ask(block_ids, ignore_progress)
    assert answering.largest == HAS_BLOCKS_MAX
    assert presence.copies == len(block_ids)
    answering.largest = 0
    await presence.verify(block_ids[:1000], ignore_progress)
    assert answering.largest == ABSENT_BLOCKS_AT_ONCE
    assert VERIFY_BLOCKS_AT_ONCE < ABSENT_BLOCKS_AT_ONCE


async def test_nothing_is_believed_of_a_server_that_was_lost() -> None:
    block_ids = _ids(HAS_BLOCKS_MAX + 10)
    all_good = dict.fromkeys(block_ids, "good")
    answering = Answering({"a": all_good, "b": all_good, "c": all_good})
    answering.fails_after["b"] = 1
    presence = _presence(answering, block_ids)
    await presence.ask(block_ids, ignore_progress)
    assert answering.lost == ["b"]
    assert all(presence.good_at(block_id) == ["a", "c"] for block_id in block_ids)
    # It is not asked again.
    answering.fails_after["b"] = 5
    await presence.verify(block_ids[:20], ignore_progress)
    assert answering.fails_after["b"] == 5


def test_batches() -> None:
    ids = _ids(5)
    assert list(batches(ids, 2)) == [ids[:2], ids[2:4], ids[4:]]
    assert list(batches([], 2)) == []
