"""Messages: each survives the wire, names are unique, and old bytes stay readable."""

from __future__ import annotations

import typing
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfs.core import messages
from dfs.core.messages import (
    ChunkReply,
    ChunkRequest,
    Failure,
    GetBlock,
    HasBlocks,
    KeepAlive,
    Lookup,
    Message,
    MetaReply,
    MetaRequest,
)
from dfs.types import BlockId, InodeId, MapEpoch, SessionId

UNIONS = {
    "MetaRequest": MetaRequest,
    "MetaReply": MetaReply,
    "ChunkRequest": ChunkRequest,
    "ChunkReply": ChunkReply,
}
CASES = [(name, member) for name, union in UNIONS.items() for member in typing.get_args(union)]
ALL_MESSAGES = [
    member
    for member in vars(messages).values()
    if isinstance(member, type) and issubclass(member, Message) and member is not Message
]

inspect = msgspec.inspect


def values_of(kind: inspect.Type) -> st.SearchStrategy[Any]:
    """Any value of a type that messages are made of."""
    simple: dict[type, st.SearchStrategy[Any]] = {
        inspect.IntType: st.integers(-(1 << 63), (1 << 64) - 1),
        inspect.FloatType: st.floats(allow_nan=False),
        inspect.StrType: st.text(max_size=8),
        inspect.BytesType: st.binary(max_size=40),
        inspect.BoolType: st.booleans(),
        inspect.NoneType: st.none(),
    }
    if type(kind) in simple:
        return simple[type(kind)]
    if isinstance(kind, inspect.UnionType):
        return st.one_of([values_of(member) for member in kind.types])
    if isinstance(kind, inspect.VarTupleType):
        return st.lists(values_of(kind.item_type), max_size=3).map(tuple)
    if isinstance(kind, inspect.TupleType):
        return st.tuples(*[values_of(item) for item in kind.item_types])
    if isinstance(kind, inspect.DictType):
        return st.dictionaries(values_of(kind.key_type), values_of(kind.value_type), max_size=3)
    if isinstance(kind, inspect.EnumType):
        return st.sampled_from(list(kind.cls))
    assert isinstance(kind, inspect.StructType), kind
    return st.builds(
        kind.cls, **{field.name: values_of(field.type) for field in kind.fields if field.name}
    )


@pytest.mark.parametrize(("union_name", "message_type"), CASES)
@given(data=st.data())
def test_every_message_survives_the_wire(
    union_name: str, message_type: type[Message], data: st.DataObject
) -> None:
    """Encode any value of every message, decode it as its union: the same value comes out."""
    message = data.draw(values_of(inspect.type_info(message_type)))
    encoded = msgspec.msgpack.encode(message)
    assert msgspec.msgpack.decode(encoded, type=UNIONS[union_name]) == message


def test_no_message_is_left_out() -> None:
    """A message that is in no union can be sent but never received."""
    spoken = {member for _, member in CASES}
    assert sorted(m.__name__ for m in ALL_MESSAGES if m not in spoken) == []


def test_tags_are_class_names_and_unique() -> None:
    tags = [message_type.__struct_config__.tag for message_type in ALL_MESSAGES]
    assert tags == [message_type.__name__ for message_type in ALL_MESSAGES]
    assert len(tags) == len(set(tags))


def test_both_services_can_fail() -> None:
    assert Failure in typing.get_args(MetaReply)
    assert Failure in typing.get_args(ChunkReply)


@pytest.mark.parametrize(
    ("message", "golden"),
    [
        (
            Lookup(parent=InodeId(1), name=b"a"),
            b"\x83\xa4type\xa6Lookup\xa6parent\x01\xa4name\xc4\x01a",
        ),
        (
            KeepAlive(session_id=SessionId(2), map_epoch=MapEpoch(3)),
            b"\x83\xa4type\xa9KeepAlive\xaasession_id\x02\xa9map_epoch\x03",
        ),
        (
            GetBlock(block_id=BlockId(b"\x01\x02")),
            b"\x82\xa4type\xa8GetBlock\xa8block_id\xc4\x02\x01\x02",
        ),
        (
            Failure(kind="FsError", message="m", errno=2),
            b"\x84\xa4type\xa7Failure\xa4kind\xa7FsError\xa7message\xa1m\xa5errno\x02",
        ),
    ],
)
def test_golden_bytes(message: Message, golden: bytes) -> None:
    """Another release reads these bytes: they change only with PROTOCOL_VERSION."""
    assert msgspec.msgpack.encode(message) == golden
    assert msgspec.msgpack.decode(golden, type=type(message)) == message


def test_fields_of_a_newer_release_are_passed_over() -> None:
    """Adding a field with a default needs no new protocol version."""
    newer = {"type": "HasBlocks", "block_ids": [b"\0" * 32], "hint": {"any": [1, 2]}}
    decoded = msgspec.msgpack.decode(msgspec.msgpack.encode(newer), type=ChunkRequest)
    assert decoded == HasBlocks(block_ids=(BlockId(bytes(32)),))


def test_messages_are_frozen() -> None:
    assert all(message_type.__struct_config__.frozen for message_type in ALL_MESSAGES)
