from __future__ import annotations

import pytest

from dfs.core.namespace import keys
from dfs.core.namespace import records as r
from dfs.errors import FormatTooNew
from dfs.meta.tables import decode_row, record_type_of
from dfs.types import ROOT, InodeId, ServerId, SessionId
from tests.unit.meta.rig import block_id


@pytest.mark.parametrize(
    ("key", "record_type"),
    [
        (keys.inode_key(ROOT), r.Inode),
        (keys.dentry_key(ROOT, b"a"), r.Dentry),
        (keys.xattr_key(ROOT, b"user.a"), r.Xattr),
        (keys.extent_key(ROOT, 0), r.Extent),
        (keys.block_key(block_id(1)), r.BlockRef),
        (keys.garbage_key(block_id(1)), r.Garbage),
        (keys.orphan_key(InodeId(9)), r.Orphan),
        (keys.session_key(SessionId(1)), r.SessionRecord),
        (keys.FENCE_KEY, r.Fence),
        (keys.VOLUME_KEY, r.Config),
        (keys.COUNTERS_KEY, r.Counters),
        (keys.MAP_KEY, r.MapRecord),
        (keys.server_key(ServerId("ab")), r.ServerRecord),
    ],
)
def test_every_table_has_its_record(key: bytes, record_type: type[r.Record]) -> None:
    assert record_type_of(key) is record_type


@pytest.mark.parametrize("key", [b"", b"\0\0I", b"\0\0Q1", b"\0\0Cnothing", b"\0\0Cserver"])
def test_other_keys_are_refused(key: bytes) -> None:
    with pytest.raises(ValueError, match="is no key"):
        record_type_of(key)


def test_rows_are_decoded_by_their_key() -> None:
    record = r.Dentry(InodeId(5), 0o100000)
    assert decode_row(keys.dentry_key(ROOT, b"a"), r.encode_record(record)) == record
    newer = bytes((r.FORMAT_VERSION + 1,)) + r.encode_record(record)[1:]
    with pytest.raises(FormatTooNew):
        decode_row(keys.dentry_key(ROOT, b"a"), newer)
