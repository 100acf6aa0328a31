"""Limits that depend on each other: what one part may produce, the next must be able to carry."""

from __future__ import annotations

from pathlib import Path

import pytest

from dfs import limits
from dfs.core.messages import (
    BlockHeader,
    BlockReply,
    DirectoryEntry,
    DirectoryReply,
    ExtentsReply,
    FrameHeader,
    HasBlocks,
    Message,
    XattrReply,
)
from dfs.core.namespace.records import Extent, Inode
from dfs.core.packets import encode_packet
from dfs.types import BlockId, InodeId

BLOCK = BlockId(b"\xff" * limits.BLOCK_ID_BYTES)
LARGE = (1 << 63) - 1


def largest_inode() -> Inode:
    """As many bytes as an inode's record can take on the wire."""
    return Inode(
        ino=InodeId(LARGE),
        mode=0o177777,
        uid=(1 << 32) - 1,
        gid=(1 << 32) - 1,
        rdev=LARGE,
        nlink=limits.LINK_COUNT_MAX,
        size=limits.FILE_BYTES_MAX,
        atime_ns=limits.TIME_NS_MIN,
        mtime_ns=limits.TIME_NS_MIN,
        ctime_ns=limits.TIME_NS_MIN,
        btime_ns=limits.TIME_NS_MIN,
        parent=InodeId(LARGE),
        target=b"t" * limits.SYMLINK_BYTES_MAX,
        xattr_count=LARGE,
        stored_bytes=LARGE,
        data_version=LARGE,
    )


def largest_messages() -> list[Message]:
    """The largest of each kind whose size a limit bounds."""
    entry = DirectoryEntry(b"n" * limits.NAME_BYTES_MAX, largest_inode())
    block_extent = Extent(offset=LARGE, length=LARGE, block_id=BLOCK, block_offset=LARGE)
    # Inline extents live in the first bytes of a file only; all of them together are no more.
    inline = Extent(offset=0, length=limits.INLINE_BYTES_MAX, inline=bytes(limits.INLINE_BYTES_MAX))
    frame = FrameHeader(b"\xff" * 32, limits.FRAME_BYTES, is_compressed=True)
    frames = (frame,) * (limits.BLOCK_BYTES_MAX // limits.FRAME_BYTES)
    extents = (inline, *[block_extent] * (limits.EXTENTS_PER_REPLY_MAX - 1))
    return [
        DirectoryReply(entries=(entry,) * limits.READDIR_ENTRIES_MAX, is_last=False),
        ExtentsReply(inode=largest_inode(), extents=extents, end=LARGE),
        HasBlocks(block_ids=(BLOCK,) * limits.HAS_BLOCKS_MAX),
        BlockReply(header=BlockHeader(BLOCK, limits.BLOCK_BYTES_MAX, frames)),
        XattrReply(value=bytes(limits.XATTR_VALUE_BYTES_MAX)),
    ]


@pytest.mark.parametrize("message", largest_messages(), ids=lambda message: type(message).__name__)
def test_the_largest_messages_fit_a_packet(message: Message) -> None:
    buffers = encode_packet((1 << 63) - 1, message)
    assert len(buffers[0]) <= limits.PACKET_HEADER_BYTES_MAX


def test_the_largest_block_fits_a_packet() -> None:
    """Also when compression made nothing smaller: its frames are then stored as they are."""
    assert limits.PACKET_PAYLOAD_BYTES_MAX >= limits.BLOCK_BYTES_MAX
    encode_packet(1, HasBlocks(block_ids=()), bytes(limits.BLOCK_BYTES_MAX))


def test_packet_lengths_fit_their_fields() -> None:
    assert limits.PACKET_HEADER_BYTES_MAX < 1 << 32
    assert limits.PACKET_PAYLOAD_BYTES_MAX < 1 << 32


def test_one_connection_can_move_several_of_the_largest_blocks_at_once() -> None:
    assert limits.CONNECTION_PAYLOAD_BYTES_MAX >= 3 * limits.PACKET_PAYLOAD_BYTES_MAX


def test_silence_is_noticed_in_order() -> None:
    """Calls fail before sessions end, sessions end before clients give up."""
    assert limits.CONNECT_TIMEOUT_S < limits.CALL_TIMEOUT_S < limits.SESSION_TTL_S
    assert limits.SESSION_TTL_S < limits.META_PATIENCE_S


def test_relations_are_checked_at_import() -> None:
    """Wrong limits stop every process at once: here blocks that are no multiple of a frame."""
    text = Path(limits.__file__).read_text()
    wrong = text.replace("BLOCK_BYTES_MIN: Final = 64 * KIB", "BLOCK_BYTES_MIN: Final = 65 * KIB")
    assert wrong != text
    exec(compile(text, "limits", "exec"), {})
    with pytest.raises(AssertionError):
        exec(compile(wrong, "limits", "exec"), {})
