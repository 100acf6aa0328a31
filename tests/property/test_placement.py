"""Placement over random clusters: a fair share for everyone, few moves, zones apart, and purity."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfs.core.placement import GROUP_COUNT, GroupId, servers_for_group
from dfs.types import ChunkServer, ClusterMap, MapEpoch, ServerId, ServerState

SAMPLE = range(0, GROUP_COUNT, 16)


def make_server(server_id: str, zone: str, weight: float, state: ServerState) -> ChunkServer:
    return ChunkServer(ServerId(server_id), f"{server_id}:1", zone, weight, state)


def a_server(states: list[ServerState]) -> st.SearchStrategy[ChunkServer]:
    return st.builds(
        make_server,
        st.integers(0, 2**64 - 1).map(lambda number: f"{number:016x}"),
        st.sampled_from("abcde"),
        st.floats(1, 1000),
        st.sampled_from(states),
    )


def clusters(*states: ServerState, min_size: int = 0) -> st.SearchStrategy[tuple[ChunkServer, ...]]:
    return st.lists(
        a_server(list(states)), min_size=min_size, max_size=12, unique_by=lambda one: one.server_id
    ).map(tuple)


def order(group: int, servers: tuple[ChunkServer, ...]) -> tuple[ChunkServer, ...]:
    found = servers_for_group(GroupId(group), ClusterMap(MapEpoch(1), servers, 2, 1))
    return found


@settings(max_examples=50)
@given(servers=clusters(*ServerState), data=st.data())
def test_who_is_named_in_which_order(servers: tuple[ChunkServer, ...], data: st.DataObject) -> None:
    """Everyone not out, once, up before down; by zones in rounds within each."""
    group = data.draw(st.integers(0, GROUP_COUNT - 1))
    found = order(group, servers)
    assert set(found) == {one for one in servers if one.state is not ServerState.OUT}
    assert len(found) == len(set(found))
    states = [one.state for one in found]
    assert states == sorted(states, key=[ServerState.UP, ServerState.DOWN].index)
    for state in (ServerState.UP, ServerState.DOWN):
        zones = [one.zone for one in found if one.state is state]
        times_before = [zones[:at].count(zone) for at, zone in enumerate(zones)]
        assert times_before == sorted(times_before)
    assert found == order(group, tuple(data.draw(st.permutations(servers))))


@settings(max_examples=30)
@given(servers=clusters(ServerState.UP, min_size=1), newcomer=a_server([ServerState.UP]))
def test_a_server_that_comes_or_goes_moves_only_its_own(
    servers: tuple[ChunkServer, ...], newcomer: ChunkServer
) -> None:
    """In zones of their own, the order of the others stays as it was."""
    if newcomer.server_id in {one.server_id for one in servers}:
        return
    apart = tuple(msgspec.structs.replace(one, zone=one.server_id) for one in (*servers, newcomer))
    for group in SAMPLE:
        after = order(group, apart)
        assert order(group, apart[:-1]) == tuple(one for one in after if one is not apart[-1])


@settings(max_examples=30)
@given(servers=clusters(ServerState.UP, min_size=2), data=st.data())
def test_a_weight_that_grows_only_attracts(
    servers: tuple[ChunkServer, ...], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(servers) - 1))
    factor = data.draw(st.floats(1, 10))
    heavier = msgspec.structs.replace(servers[at], weight=servers[at].weight * factor)
    changed = (*servers[:at], heavier, *servers[at + 1 :])
    for group in SAMPLE:
        before, after = order(group, servers)[0], order(group, changed)[0]
        assert after in (before, heavier)
        if before.server_id == heavier.server_id:
            assert after == heavier


@pytest.mark.parametrize(
    "weights",
    [[1.0] * 3, [1.0] * 10, [1.0, 2.0, 3.0], [10.0, 1.0], [100.0, 100.0, 50.0, 25.0, 300.0]],
    ids=str,
)
def test_first_copies_are_shared_by_weight(weights: list[float]) -> None:
    """Averaged over several clusters: one has 4096 groups only, which scatters by itself."""
    counts: Counter[int] = Counter()
    rounds = 12
    for number in range(rounds):
        servers = tuple(
            make_server(f"{number:08x}{at:08x}", f"z{at}", weight, ServerState.UP)
            for at, weight in enumerate(weights)
        )
        for group in range(GROUP_COUNT):
            counts[int(order(group, servers)[0].server_id[8:], 16)] += 1
    for at, weight in enumerate(weights):
        share = counts[at] / (rounds * GROUP_COUNT)
        assert share == pytest.approx(weight / sum(weights), rel=0.05)


def test_all_copies_are_shared_evenly_within_one_cluster() -> None:
    servers = tuple(make_server(f"{n:016x}", f"z{n}", 5.0, ServerState.UP) for n in range(6))
    counts = Counter(one for group in range(GROUP_COUNT) for one in order(group, servers)[:2])
    for one in servers:
        assert counts[one] / (2 * GROUP_COUNT) == pytest.approx(1 / 6, rel=0.06)


def test_adding_a_server_moves_its_share_and_no_more() -> None:
    servers = tuple(make_server(f"{n:016x}", f"z{n}", 5.0, ServerState.UP) for n in range(10))
    moved = sum(
        order(group, servers)[0] != order(group, servers[:9])[0] for group in range(GROUP_COUNT)
    )
    assert moved / GROUP_COUNT == pytest.approx(1 / 10, rel=0.15)


_PRINT_ORDERS = """
from tests.property.test_placement import *
servers = tuple(make_server(f"{n:016x}", "abc"[n % 3], 1.0 + n, ServerState.UP) for n in range(7))
print([[one.server_id for one in order(group, servers)] for group in SAMPLE])
"""


def test_every_process_computes_the_same() -> None:
    """Also with other hash seeds."""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", _PRINT_ORDERS],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2")
    }
    servers = tuple(
        make_server(f"{n:016x}", "abc"[n % 3], 1.0 + n, ServerState.UP) for n in range(7)
    )
    here = [[one.server_id for one in order(group, servers)] for group in SAMPLE]
    assert outputs == {f"{here}\n".encode()}
