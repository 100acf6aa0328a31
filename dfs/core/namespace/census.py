"""What a full set of records says, gathered row by row, so that the checks can compare it.

Only sums and the small records are kept; extents pass through. Rows come in key order, as an export
gives them. What cannot be read becomes a finding, never an exception: damage is what this is for.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from dfs.core.namespace import keys
from dfs.core.namespace.records import (
    BlockRef,
    Config,
    Counters,
    Dentry,
    Extent,
    Fence,
    Garbage,
    Inode,
    MapRecord,
    Orphan,
    Record,
    ServerRecord,
    SessionRecord,
    Xattr,
    decode_record,
)
from dfs.core.namespace.shape import INO_MAX
from dfs.errors import FormatTooNew
from dfs.limits import BLOCK_ID_BYTES, NAME_BYTES_MAX
from dfs.types import BlockId, InodeId

R = TypeVar("R", bound=Record)

_CONFIGURATION: dict[bytes, type[Record]] = {
    keys.FENCE_KEY: Fence,
    keys.VOLUME_KEY: Config,
    keys.MAP_KEY: MapRecord,
}


class Finding(msgspec.Struct, frozen=True):
    """One rule that a record breaks."""

    check: str
    """Which rule: the name of the check function without `check_`."""
    key: bytes
    """The record it is about; `dfs.core.namespace.keys` takes it apart."""
    message: str
    """One line for people; names the inode, entry or block."""
    is_error: bool = True
    """False: worth knowing, but as it may be (for example an orphan that waits to be taken
    apart)."""
    repair: dict[bytes, Record | None] = {}
    """Records to write (None: delete) that make this rule hold and lose no file content. Empty if
    there is no such repair. Repairs of one pass may name the same key: apply the first, check
    again, go on."""
    relies_on: tuple[bytes, ...] = ()
    """Keys beside those of `repair` that must be unchanged too when it is written: whoever makes it
    wrong meanwhile changes one of them."""


def of_inode(check: str, inode: Inode, what: str, fixed: Inode) -> Finding:
    key = keys.inode_key(inode.ino)
    return Finding(check, key, f"inode {inode.ino}: {what}", repair={key: fixed})


class Name(msgspec.Struct, frozen=True):
    """One entry of a directory."""

    parent: InodeId
    name: bytes
    ino: InodeId
    file_type: int

    @property
    def key(self) -> bytes:
        return keys.dentry_key(self.parent, self.name)


class Content(msgspec.Struct):
    """Sums over the extents of one inode."""

    stored_bytes: int = 0
    end: int = 0
    """Where the last extent ends."""


class BlockUse(msgspec.Struct):
    """What extents say of one block."""

    count: int = 0
    end: int = 0
    """Largest end of a piece within the block."""
    key: bytes = b""
    """The extent that reaches there."""


@dataclass
class Census:
    """Everything that the checks need to know. Grows by `add`, in key order."""

    inodes: dict[InodeId, Inode] = field(default_factory=dict)
    names: list[Name] = field(default_factory=list)
    contents: dict[InodeId, Content] = field(default_factory=dict)
    xattr_counts: Counter[InodeId] = field(default_factory=Counter)
    block_uses: dict[BlockId, BlockUse] = field(default_factory=dict)
    block_refs: dict[BlockId, BlockRef] = field(default_factory=dict)
    garbage: set[BlockId] = field(default_factory=set)
    orphans: set[InodeId] = field(default_factory=set)
    sessions: list[SessionRecord] = field(default_factory=list)
    counters: Counters | None = None
    unreadable: list[Finding] = field(default_factory=list)
    overlapping: list[Finding] = field(default_factory=list)
    row_count: int = 0
    _last_key: bytes = b""

    def add(self, key: bytes, value: bytes) -> None:
        """Takes one row in. Keys must grow."""
        assert key > self._last_key
        self._last_key = key
        self.row_count += 1
        if not _is_key(key):
            self.unreadable.append(Finding("readable", key, f"unknown key {key.hex()}"))
            return
        tag = keys.table_of(key)
        if tag in (keys.DENTRY, keys.INODE, keys.XATTR, keys.EXTENT, keys.ORPHAN):
            self._add_of_inode(tag, key, value)
        elif tag in (keys.BLOCK, keys.GARBAGE):
            self._add_of_block(tag, key, value)
        elif tag == keys.SESSION:
            session = self._read(SessionRecord, key, value)
            if session is not None:
                self.sessions.append(session)
        else:
            self._add_configuration(key, value)

    def _read(self, record_type: type[R], key: bytes, value: bytes) -> R | None:
        try:
            return decode_record(record_type, value)
        # The assertions of records.py fire on damaged rows here, and damage is what we look for.
        except (
            msgspec.MsgspecError,
            FormatTooNew,
            AssertionError,
            LookupError,
            ValueError,
        ) as error:
            reason = str(error) or "it breaks its own rules"
            message = f"{record_type.__name__} at {key.hex()} cannot be read: {reason}"
            self.unreadable.append(Finding("readable", key, message))
            return None

    def _add_of_inode(self, tag: bytes, key: bytes, value: bytes) -> None:
        ino = keys.ino_of(key)
        if tag == keys.INODE:
            inode = self._read(Inode, key, value)
            if inode is not None:
                self._add_inode(key, ino, inode)
        elif tag == keys.DENTRY:
            dentry = self._read(Dentry, key, value)
            if dentry is not None:
                self._add_name(key, ino, dentry)
        elif tag == keys.EXTENT:
            extent = self._read(Extent, key, value)
            if extent is not None:
                self._add_extent(key, ino, extent)
        elif tag == keys.XATTR:
            if self._read(Xattr, key, value) is not None:
                self.xattr_counts[ino] += 1
        elif self._read(Orphan, key, value) is not None:
            self.orphans.add(ino)

    def _add_name(self, key: bytes, parent: InodeId, dentry: Dentry) -> None:
        if not _is_ino(dentry.ino):
            message = f"an entry of directory {parent} leads to no number: {dentry.ino}"
            self.unreadable.append(Finding("readable", key, message))
            return
        self.names.append(Name(parent, keys.name_of(key), dentry.ino, dentry.file_type))

    def _add_inode(self, key: bytes, ino: InodeId, inode: Inode) -> None:
        if inode.ino != ino:
            message = f"inode {ino}'s record says that it is {inode.ino}"
            self.unreadable.append(Finding("readable", key, message))
            return
        self.inodes[ino] = inode

    def _add_extent(self, key: bytes, ino: InodeId, extent: Extent) -> None:
        if key != keys.extent_key(ino, extent.offset):
            message = f"an extent of inode {ino} says that it is at offset {extent.offset}"
            self.unreadable.append(Finding("readable", key, message))
            return
        content = self.contents.setdefault(ino, Content())
        if extent.offset < content.end:
            message = f"extents of inode {ino} overlap at offset {extent.offset}"
            self.overlapping.append(Finding("extents_apart", key, message))
        content.stored_bytes += extent.length
        content.end = max(content.end, extent.end)
        if extent.is_inline:
            return
        use = self.block_uses.setdefault(extent.block_id, BlockUse())
        use.count += 1
        if extent.block_offset + extent.length > use.end:
            use.end = extent.block_offset + extent.length
            use.key = key

    def _add_of_block(self, tag: bytes, key: bytes, value: bytes) -> None:
        block_id = keys.block_id_of(key)
        if tag == keys.BLOCK:
            ref = self._read(BlockRef, key, value)
            if ref is not None:
                self.block_refs[block_id] = ref
        elif self._read(Garbage, key, value) is not None:
            self.garbage.add(block_id)

    def _add_configuration(self, key: bytes, value: bytes) -> None:
        start, end = keys.server_range()
        if key == keys.COUNTERS_KEY:
            self.counters = self._read(Counters, key, value)
        elif start <= key < end:
            self._read(ServerRecord, key, value)
        elif key in _CONFIGURATION:
            self._read(_CONFIGURATION[key], key, value)


def _is_key(key: bytes) -> bool:
    """Whether the key has a table and the fields that its table asks for."""
    tag, fields = key[2:3], key[3:]
    if tag in (keys.INODE, keys.ORPHAN, keys.EXTENT, keys.DENTRY, keys.XATTR):
        name_bytes = len(fields) - 8
        is_named = tag in (keys.DENTRY, keys.XATTR) and 0 < name_bytes <= NAME_BYTES_MAX
        is_fixed = tag not in (keys.DENTRY, keys.XATTR) and name_bytes == 8 * (tag == keys.EXTENT)
        return (is_named or is_fixed) and _is_ino(int.from_bytes(fields[:8], "big"))
    if tag == keys.SESSION:
        return len(fields) == 8
    if tag in (keys.BLOCK, keys.GARBAGE):
        return len(fields) == BLOCK_ID_BYTES
    return tag == keys.CONFIG and bool(fields)


def _is_ino(number: int) -> bool:
    return 0 < number <= INO_MAX
