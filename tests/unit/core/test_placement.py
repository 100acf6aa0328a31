"""Placement by example: order, zones, states, and that it never changes by accident."""

from __future__ import annotations

import math

import msgspec
import pytest

from dfs.core.placement import (
    GROUP_COUNT,
    GroupId,
    group_of,
    score,
    servers_for,
    servers_for_group,
)
from dfs.types import BlockId, ChunkServer, ClusterMap, MapEpoch, ServerId, ServerState

UP, DOWN, OUT = ServerState.UP, ServerState.DOWN, ServerState.OUT


def server(
    number: int, *, zone: str = "", weight: float = 10.0, state: ServerState = UP
) -> ChunkServer:
    server_id = ServerId(f"{number:016x}")
    return ChunkServer(server_id, f"h{number}:1", zone or f"z{number}", weight, state)


def cluster(*servers: ChunkServer) -> ClusterMap:
    return ClusterMap(MapEpoch(1), servers, copies=2, min_copies=1)


def block(group: int) -> BlockId:
    """Some block of a group."""
    return BlockId((group << 4).to_bytes(2, "big") + bytes(30))


def numbers(servers: tuple[ChunkServer, ...]) -> list[int]:
    return [int(found.server_id, 16) for found in servers]


@pytest.mark.parametrize(
    ("prefix", "group"), [(b"\0\0", 0), (b"\0\x0f", 0), (b"\0\x10", 1), (b"\xff\xff", 4095)]
)
def test_the_group_is_the_first_twelve_bits(prefix: bytes, group: int) -> None:
    assert GROUP_COUNT == 4096
    assert group_of(BlockId(prefix + b"\xff" * 30)) == group


def test_an_id_of_another_length_is_our_bug() -> None:
    with pytest.raises(AssertionError):
        group_of(BlockId(b"short"))


def test_blocks_of_a_group_share_their_servers() -> None:
    cluster_map = cluster(*(server(number) for number in range(5)))
    first, last = b"\x12\x30" + bytes(30), b"\x12\x3f" + b"\xff" * 30
    found = servers_for(BlockId(first), cluster_map)
    assert found == servers_for(BlockId(last), cluster_map)
    assert found == servers_for_group(GroupId(0x123), cluster_map)


def test_everyone_but_who_is_out_is_named_once() -> None:
    servers = [server(n, state=(UP, DOWN, OUT)[n % 3]) for n in range(12)]
    for group in range(50):
        found = servers_for(block(group), cluster(*servers))
        assert sorted(numbers(found)) == [n for n in range(12) if n % 3 != 2]
        states = [one.state for one in found]
        assert states == [UP] * 4 + [DOWN] * 4


def test_nobody_there_is_no_error() -> None:
    assert servers_for(block(1), cluster()) == ()
    assert servers_for(block(1), cluster(server(1, state=OUT))) == ()


def test_the_order_servers_are_listed_in_does_not_matter() -> None:
    servers = [server(number) for number in range(7)]
    for group in range(50):
        straight = servers_for(block(group), cluster(*servers))
        assert straight == servers_for(block(group), cluster(*reversed(servers)))


def test_order_never_changes_from_release_to_release() -> None:
    """Whoever changes these numbers moves every block of every cluster."""
    cluster_map = cluster(*(server(number, weight=1 + number) for number in range(6)))
    found = [numbers(servers_for(block(group), cluster_map)) for group in (0, 1, 2, 4095)]
    assert found == [
        [5, 2, 4, 0, 3, 1],
        [3, 5, 0, 4, 1, 2],
        [1, 5, 3, 4, 2, 0],
        [4, 3, 2, 1, 5, 0],
    ]


def test_a_zone_comes_again_only_after_all_others_came() -> None:
    servers = [server(number, zone="abc"[number % 3]) for number in range(9)]
    for group in range(100):
        zones = [found.zone for found in servers_for(block(group), cluster(*servers))]
        assert [sorted(zones[at : at + 3]) for at in (0, 3, 6)] == [["a", "b", "c"]] * 3


def test_a_zone_of_many_does_not_crowd_out_a_zone_of_one() -> None:
    servers = [server(0, zone="alone", weight=0.01)]
    servers += [server(number, zone="many", weight=1000) for number in range(1, 9)]
    for group in range(100):
        found = servers_for(block(group), cluster(*servers))
        assert {found[0].zone, found[1].zone} == {"alone", "many"}


def test_zones_are_distinct_among_those_that_are_up() -> None:
    """One that is down does not take its zone's turn."""
    servers = [server(n, zone="abc"[n % 3], state=DOWN if n < 3 else UP) for n in range(9)]
    for group in range(100):
        found = servers_for(block(group), cluster(*servers))
        assert [one.state for one in found] == [UP] * 6 + [DOWN] * 3
        assert len({one.zone for one in found[:3]}) == 3


def test_a_state_does_not_change_the_order_of_the_others() -> None:
    servers = [server(number) for number in range(6)]
    for group in range(100):
        before = numbers(servers_for(block(group), cluster(*servers)))
        down = [
            msgspec.structs.replace(s, state=DOWN) if i == 2 else s for i, s in enumerate(servers)
        ]
        after = numbers(servers_for(block(group), cluster(*down)))
        assert after == [number for number in before if number != 2] + [2]


def test_a_score_grows_with_the_weight_alone() -> None:
    for group in range(0, GROUP_COUNT, 97):
        one = score(GroupId(group), ServerId("a"), 1.0)
        assert 0 < one < math.inf
        assert score(GroupId(group), ServerId("a"), 3.0) == pytest.approx(3 * one)
        assert score(GroupId(group), ServerId("b"), 1.0) != one


def test_a_weight_of_nothing_is_our_bug() -> None:
    with pytest.raises(AssertionError):
        score(GroupId(1), ServerId("a"), 0.0)
