"""Values that everyone speaks: they compare by value, travel, and answer what they are asked."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dfs.types import (
    ROOT,
    ChunkServer,
    ClusterId,
    ClusterMap,
    Credentials,
    MapEpoch,
    ServerId,
    ServerState,
    SpaceUsage,
    VolumeSettings,
)

SERVER = ChunkServer(
    server_id=ServerId("a" * 16), address="unix:/run/chunk", zone="rack-1", weight=1.5
)
VALUES: list[Any] = [
    Credentials(uid=1000, gid=100, groups=(4, 24)),
    SERVER,
    ClusterMap(map_epoch=MapEpoch(3), servers=(SERVER,), copies=2, min_copies=1),
    VolumeSettings(cluster_id=ClusterId("c" * 32), block_bytes=1 << 20),
    SpaceUsage(capacity_bytes=10, used_bytes=4, free_bytes=5),
]


def test_the_root_is_inode_one() -> None:
    """On disk since the first format: it never changes."""
    assert ROOT == 1


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_travel_and_compare(value: Any) -> None:
    arrived = msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=type(value))
    assert arrived == value
    assert arrived is not value
    assert hash(arrived) == hash(value)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_do_not_change(value: Any) -> None:
    first = value.__struct_fields__[0]
    with pytest.raises(AttributeError):
        setattr(value, first, getattr(value, first))


def test_credentials_on_the_wire() -> None:
    """An array in field order: these bytes are part of every op."""
    assert msgspec.msgpack.encode(Credentials(1, 2, (3,))) == b"\x93\x01\x02\x91\x03"


@pytest.mark.parametrize(("uid", "is_privileged"), [(0, True), (1, False), (65534, False)])
def test_only_uid_zero_is_privileged(uid: int, is_privileged: bool) -> None:
    assert Credentials(uid=uid, gid=0).is_privileged is is_privileged


@pytest.mark.parametrize(
    ("gid", "is_member"), [(100, True), (4, True), (24, True), (0, False), (1000, False)]
)
def test_groups_are_the_first_and_the_supplementary_ones(gid: int, is_member: bool) -> None:
    assert Credentials(uid=1000, gid=100, groups=(4, 24)).is_in_group(gid) is is_member


def test_a_new_chunk_server_is_up() -> None:
    assert SERVER.state is ServerState.UP
    assert [state.value for state in ServerState] == ["up", "down", "out"]
