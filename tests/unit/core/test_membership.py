"""Up, down, out: what each report, silence and word of the operator does to the map."""

from __future__ import annotations

import msgspec
import pytest

from dfs.core.membership import MapChange, Membership
from dfs.core.namespace.records import MapRecord, ServerRecord
from dfs.limits import GIB, SERVER_DOWN_S
from dfs.types import MapEpoch, ServerId, ServerState

UP, DOWN, OUT = ServerState.UP, ServerState.DOWN, ServerState.OUT


def record(name: str, *, capacity_bytes: int = 100 * GIB, zone: str = "z") -> ServerRecord:
    return ServerRecord(ServerId(name), f"{name}:1", zone, capacity_bytes)


def membership(*records: ServerRecord, map_epoch: int = 0) -> Membership:
    return Membership(records, MapEpoch(map_epoch), copies=2, min_copies=1, now_s=1000.0)


def states(members: Membership) -> dict[str, ServerState]:
    return {server.server_id: server.state for server in members.cluster_map.servers}


def epoch_of(members: Membership) -> int:
    return members.cluster_map.map_epoch


def test_the_first_map_is_newer_than_all_before() -> None:
    members = membership(record("b"), record("a"), map_epoch=7)
    assert members.change_at_start == MapChange(members.cluster_map, MapRecord(MapEpoch(8)), ())
    assert epoch_of(members) == 8
    assert [server.server_id for server in members.cluster_map.servers] == ["a", "b"]
    assert states(members) == {"a": UP, "b": UP}
    assert (members.cluster_map.copies, members.cluster_map.min_copies) == (2, 1)


def test_a_first_report_brings_a_server_into_the_map() -> None:
    members = membership()
    change = members.report(record("a", zone="rack 1"), 1001.0)
    assert change is not None
    assert change.servers == (record("a", zone="rack 1"),)
    assert change.cluster_map is members.cluster_map
    assert change.map_record == MapRecord(MapEpoch(2)) == MapRecord(change.cluster_map.map_epoch)
    [server] = change.cluster_map.servers
    assert (server.server_id, server.address, server.zone) == ("a", "a:1", "rack 1")
    assert (server.weight, server.state) == (100.0, UP)


def test_reports_without_news_change_nothing() -> None:
    members = membership(record("a"))
    before = members.cluster_map
    for second in range(100):
        assert members.report(record("a"), 1000.0 + second) is None
        assert members.tick(1000.0 + second) is None
    assert members.cluster_map is before


def test_silence_makes_a_server_down_once_and_a_report_brings_it_back() -> None:
    members = membership(record("a"), record("b"))
    assert members.tick(1000.0 + SERVER_DOWN_S) is None
    assert members.report(record("b"), 1000.0 + SERVER_DOWN_S) is None
    change = members.tick(1000.1 + SERVER_DOWN_S)
    assert change is not None
    assert change.servers == ()
    assert states(members) == {"a": DOWN, "b": UP}
    assert epoch_of(members) == 2
    assert members.tick(1000.2 + SERVER_DOWN_S) is None
    back = members.report(record("a"), 1000.3 + SERVER_DOWN_S)
    assert back is not None
    assert back.servers == ()
    assert states(members) == {"a": UP, "b": UP}
    assert epoch_of(members) == 3


def test_several_go_down_in_one_change() -> None:
    members = membership(record("a"), record("b"), record("c"))
    assert members.tick(1100.0) is not None
    assert states(members) == {"a": DOWN, "b": DOWN, "c": DOWN}
    assert epoch_of(members) == 2


def test_out_lasts_whatever_the_server_says() -> None:
    members = membership(record("a"), record("b"))
    change = members.set_out(ServerId("a"), is_out=True)
    assert change is not None
    assert change.servers == (msgspec.structs.replace(record("a"), is_out=True),)
    assert states(members) == {"a": OUT, "b": UP}
    assert members.set_out(ServerId("a"), is_out=True) is None
    assert members.report(record("a"), 1001.0) is None
    assert members.report(record("b"), 1001.0) is None
    assert members.tick(1002.0) is None
    assert states(members) == {"a": OUT, "b": UP}


@pytest.mark.parametrize(("is_silent", "expected"), [(False, UP), (True, DOWN)])
def test_who_is_taken_back_in_is_up_or_down(is_silent: bool, expected: ServerState) -> None:
    members = membership(msgspec.structs.replace(record("a"), is_out=True))
    assert states(members) == {"a": OUT}
    # An out server's silence changes no map.
    assert members.tick(1100.0) is None
    if not is_silent:
        assert members.report(record("a"), 1100.0) is None
    change = members.set_out(ServerId("a"), is_out=False)
    assert change is not None
    assert change.servers == (record("a"),)
    assert states(members) == {"a": expected}


def test_nobody_takes_out_whom_nobody_knows() -> None:
    with pytest.raises(KeyError):
        membership().set_out(ServerId("a"), is_out=True)


def test_a_new_server_cannot_call_itself_out() -> None:
    members = membership()
    members.report(msgspec.structs.replace(record("a"), is_out=True), 1001.0)
    assert states(members) == {"a": UP}


@pytest.mark.parametrize("changes", [{"address": "elsewhere:2"}, {"zone": "y"}])
def test_a_move_is_a_change(changes: dict[str, str]) -> None:
    members = membership(record("a"))
    moved = msgspec.structs.replace(record("a"), **changes)
    change = members.report(moved, 1001.0)
    assert change is not None
    assert change.servers == (moved,)
    [server] = members.cluster_map.servers
    assert (server.address, server.zone) == (moved.address, moved.zone)


@pytest.mark.parametrize(
    ("capacity_bytes", "weight"),
    [
        (109 * GIB, 100.0),
        (91 * GIB, 100.0),
        (110 * GIB, 110.0),
        (90 * GIB, 90.0),
        (0, 1.0),
        (GIB // 2, 1.0),
    ],
)
def test_a_weight_follows_the_capacity_by_tenths(capacity_bytes: int, weight: float) -> None:
    members = membership(record("a"))
    change = members.report(record("a", capacity_bytes=capacity_bytes), 1001.0)
    [server] = members.cluster_map.servers
    assert server.weight == weight
    assert (change is not None) == (weight != 100.0)


def test_small_steps_add_up_to_a_change() -> None:
    members = membership(record("a"))
    changes = [
        members.report(record("a", capacity_bytes=(100 + step) * GIB), 1000.0 + step)
        for step in range(1, 12)
    ]
    assert [step for step, change in enumerate(changes, 1) if change] == [10]


def test_a_capacity_from_nothing_is_a_change() -> None:
    members = membership(record("a", capacity_bytes=0))
    assert members.report(record("a", capacity_bytes=0), 1001.0) is None
    change = members.report(record("a", capacity_bytes=5 * GIB), 1002.0)
    assert change is not None
    assert change.cluster_map.servers[0].weight == 5.0


def test_silence_is_measured_from_the_last_report() -> None:
    members = membership(record("a"))
    assert members.silent_s(ServerId("a"), 1004.0) == 4.0
    members.report(record("a"), 1003.0)
    assert members.silent_s(ServerId("a"), 1004.0) == 1.0


def test_time_that_runs_backwards_is_our_bug() -> None:
    members = membership(record("a"))
    with pytest.raises(AssertionError):
        members.tick(999.0)
    with pytest.raises(AssertionError):
        members.report(record("a"), 999.0)


def test_every_change_raises_the_epoch_by_one() -> None:
    members = membership(map_epoch=41)
    changes = [
        members.change_at_start,
        members.report(record("a"), 1001.0),
        members.report(record("b"), 1001.0),
        members.tick(1010.0),
        members.report(record("b"), 1011.0),
        members.set_out(ServerId("a"), is_out=True),
        members.report(record("a"), 1012.0),
        members.set_out(ServerId("a"), is_out=False),
    ]
    epochs = [change.cluster_map.map_epoch for change in changes if change is not None]
    assert epochs == [42, 43, 44, 45, 46, 47, 48]
    assert changes[6] is None
