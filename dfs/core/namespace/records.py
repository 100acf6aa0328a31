"""The records that the metadata service keeps. `docs/disk_format.md` pins their bytes.

A value in the engine is one byte of format version followed by the record as a msgpack array.
Fields are only ever appended, with a default, so a newer dfs reads older records.
"""

from __future__ import annotations

import stat
from typing import TypeVar

import msgspec

from dfs.errors import FormatTooNew
from dfs.limits import BLOCK_ID_BYTES, INLINE_BYTES_MAX, LINK_COUNT_MAX
from dfs.types import BlockId, ClusterId, InodeId, MapEpoch, OpNumber, ServerId, SessionId

FORMAT_VERSION = 1


class Record(msgspec.Struct, frozen=True, array_like=True):
    """Base of all records: immutable, encoded as an array in field order."""


class Inode(Record, frozen=True, array_like=True):
    """An object of the namespace: file, directory, symlink, device, fifo or socket (inode(7))."""

    ino: InodeId
    """Its own number, repeated from the key so that a record can be passed around alone."""
    mode: int
    """Type and permission bits as in st_mode."""
    uid: int
    gid: int
    rdev: int
    """Device number of a character or block device; 0 for all other types."""
    nlink: int
    """Names that lead here; a directory counts itself and its subdirectories (≥ 2 while linked)."""
    size: int
    """Bytes; a symlink's is its target's length; a directory's is its number of entries."""
    atime_ns: int
    """Time stamps: nanoseconds since 1970, negative before."""
    mtime_ns: int
    ctime_ns: int
    btime_ns: int
    """When the inode was made; never changes."""
    parent: InodeId
    """Directories: the directory that holds it (the root's is itself). 0 for all other types."""
    target: bytes = b""
    """Symlinks: where it leads. Empty for all other types."""
    xattr_count: int = 0
    """Extended attributes of this inode; lets a client answer "none" without asking."""
    stored_bytes: int = 0
    """Files: sum of the lengths of all extents, i.e. bytes that are not holes."""
    data_version: int = 0
    """Counts changes of a file's content or size: equal numbers mean equal bytes."""

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def is_symlink(self) -> bool:
        return stat.S_ISLNK(self.mode)


class Dentry(Record, frozen=True, array_like=True):
    """One (directory, name) → inode entry. `file_type` is S_IFMT of the inode's mode."""

    ino: InodeId
    file_type: int


class Xattr(Record, frozen=True, array_like=True):
    """The value of one extended attribute (xattr(7)); may be empty."""

    value: bytes


class Extent(Record, frozen=True, array_like=True):
    """A range of a file → a piece of a block, or bytes kept right here. Extents never overlap;
    gaps are holes."""

    offset: int
    """Where it starts in the file, repeated from the key."""
    length: int
    """Bytes, at least 1."""
    block_id: BlockId = BlockId(b"")
    """The block; empty for an inline extent."""
    block_offset: int = 0
    """Where the piece starts in the block."""
    inline: bytes = b""
    """The bytes themselves: length `length`, only within the file's first INLINE_BYTES_MAX."""

    @property
    def end(self) -> int:
        return self.offset + self.length

    @property
    def is_inline(self) -> bool:
        return not self.block_id


class BlockRef(Record, frozen=True, array_like=True):
    """How often a block is named by extents (I6)."""

    count: int
    """Extents that name it; 0 while it waits in the garbage queue."""
    length: int
    """Plain bytes of the block, 1 … the volume's block size."""
    is_condemned: bool = False
    """About to be deleted: a commit that names it is refused."""


class Garbage(Record, frozen=True, array_like=True):
    """Marks a block whose count fell to zero; the key holds everything."""


class Orphan(Record, frozen=True, array_like=True):
    """Marks an inode without a name that is still open, or is being taken apart."""


class SessionRecord(Record, frozen=True, array_like=True):
    """A client's life at the metadata service, and the durable end of its op stream (I8)."""

    session_id: SessionId
    client: str
    """Who it is, for people: host, process id, mount point."""
    last_op: OpNumber
    """Every op up to here has had its effect, or failed for good."""
    failed_ops: tuple[tuple[OpNumber, int], ...] = ()
    """(op number, errno) of ops ≤ last_op that failed and whose answer the client may still ask
    for."""
    first_ino: InodeId = InodeId(0)
    """The newest range of inode numbers handed to it: [first_ino, end_ino). Empty if equal."""
    end_ino: InodeId = InodeId(0)
    may_remember: bool = False
    """It may have leases: after a restart others wait until it is back, or has expired (I4)."""
    has_left: bool = False
    """Its client has closed the link in order, and was not back when this was written: it is dead,
    or about to be, and nobody waits for it for long."""


class Fence(Record, frozen=True, array_like=True):
    """Ownership of a shard: every batch checks it and counts `batch_number` up by one (I7)."""

    shard_epoch: int
    batch_number: int


class Config(Record, frozen=True, array_like=True):
    """The volume's settings, written once when the cluster is made."""

    cluster_id: ClusterId
    block_bytes: int
    copies: int
    min_copies: int


class Counters(Record, frozen=True, array_like=True):
    """What grows: the next free inode counter and the next session id; and exact totals for
    statfs."""

    next_ino: InodeId
    next_session: SessionId
    inode_count: int
    """Inodes with a record."""
    stored_bytes: int
    """Sum of the inodes' stored_bytes: what files hold before deduplication."""


class ServerRecord(Record, frozen=True, array_like=True):
    """A chunk server that has reported at least once."""

    server_id: ServerId
    address: str
    zone: str
    capacity_bytes: int
    is_out: bool = False


class MapRecord(Record, frozen=True, array_like=True):
    """Version of the cluster map; its servers are the ServerRecords."""

    map_epoch: MapEpoch


R = TypeVar("R", bound=Record)
_encoder = msgspec.msgpack.Encoder()
_decoders: dict[type[Record], msgspec.msgpack.Decoder[Record]] = {}


def encode_record(record: Record) -> bytes:
    """The record as the engine keeps it."""
    _assert_valid(record)
    return bytes((FORMAT_VERSION,)) + _encoder.encode(record)


def decode_record(record_type: type[R], value: bytes) -> R:
    """The record that `value` encodes. Raises FormatTooNew; a damaged value raises
    msgspec.DecodeError."""
    if value[0] > FORMAT_VERSION:
        raise FormatTooNew(
            f"record format {value[0]} was written by a newer dfs; "
            f"this one reads up to {FORMAT_VERSION}"
        )
    decoder = _decoders.get(record_type)
    if decoder is None:
        decoder = _decoders[record_type] = msgspec.msgpack.Decoder(record_type)
    record = decoder.decode(memoryview(value)[1:])
    assert isinstance(record, record_type)
    _assert_valid(record)
    return record


def _assert_valid(record: Record) -> None:
    """Checks around every encode and decode, so that a bad record is caught where it is made."""
    if isinstance(record, Extent):
        _assert_valid_extent(record)
    elif isinstance(record, Inode):
        _assert_valid_inode(record)
    elif isinstance(record, BlockRef):
        assert record.count >= 0
        assert record.length > 0
        assert not (record.is_condemned and record.count)


def _assert_valid_extent(extent: Extent) -> None:
    assert extent.offset >= 0
    assert extent.length > 0
    if extent.is_inline:
        assert len(extent.inline) == extent.length
        assert extent.end <= INLINE_BYTES_MAX
        assert extent.block_offset == 0
    else:
        assert len(extent.block_id) == BLOCK_ID_BYTES
        assert not extent.inline
        assert extent.block_offset >= 0


def _assert_valid_inode(inode: Inode) -> None:
    assert inode.ino > 0
    assert 0 <= inode.nlink <= LINK_COUNT_MAX
    assert inode.size >= 0
    assert inode.xattr_count >= 0
    assert inode.stored_bytes >= 0
    assert stat.S_IFMT(inode.mode) != 0
    assert bool(inode.parent) == inode.is_directory
    assert bool(inode.target) == inode.is_symlink
