"""Goal: a commit says what stands where, by whom, and since when its blocks are safe (I1)."""

from __future__ import annotations

from dfs.client.open_files import OpenFile
from dfs.client.upload import Upload, commit_of
from dfs.core.namespace.ops import Piece
from dfs.types import BlockId, InodeId
from tests.unit.client.rig import BLOCK, USER

FIRST, SECOND = BlockId(b"1" * 32), BlockId(b"2" * 32)


def dirty_file() -> OpenFile:
    file = OpenFile(InodeId(9), BLOCK)
    file.writer, file.last_write_ns = USER, 77
    return file


def taken(file: OpenFile, *writes: tuple[int, bytes]) -> list[Upload]:
    for offset, data in writes:
        file.dirty.write(offset, data)
    return [Upload(block) for block in file.dirty.take_rest()]


def test_inline_data_needs_no_upload() -> None:
    file = dirty_file()
    file.keeps_attributes = True
    op = commit_of(file, taken(file, (4, b"later"), (0, b"a")))
    assert op.pieces == (Piece(0, 1, inline=b"a"), Piece(4, 5, inline=b"later"))
    assert (op.ino, op.credentials, op.now_ns) == (9, USER, 77)
    assert (op.uploaded_since, op.keeps_attributes) == (None, True)


def test_a_commit_is_as_old_as_its_oldest_upload() -> None:
    file = dirty_file()
    later, earlier = (*taken(file, (BLOCK, bytes(9000))), *taken(file, (9000, bytes(8192))))
    later.block_id, later.since = FIRST, 8
    earlier.block_id, earlier.since = SECOND, 5
    op = commit_of(file, [later, earlier])
    assert [piece.block_id for piece in op.pieces] == [SECOND, FIRST], "by offset"
    assert op.uploaded_since == 5
