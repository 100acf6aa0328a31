"""Goal: content, sizes and reference counts agree after every change (I6), in bounded steps.
Method: each way that ranges can meet, files of thousands of extents, and random writes and cuts
beside a bytearray.
"""

from __future__ import annotations

import errno
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from dfs.core.namespace.apply import apply
from dfs.core.namespace.extents import REMOVED_PER_OP_MAX, extents_touching
from dfs.core.namespace.keys import block_key, extent_key, inode_key
from dfs.core.namespace.ops import CommitData, Divide, Piece, SetAttr, SetXattr, TrimTail, Unlink
from dfs.core.namespace.records import BlockRef, Extent
from dfs.core.namespace.view import Overlay
from dfs.core.namespace.xattrs import CAPABILITY, list_xattrs
from dfs.errors import FsError
from dfs.limits import FILE_BYTES_MAX, INLINE_BYTES_MAX, PIECES_PER_COMMIT_MAX
from dfs.types import BlockId, InodeId
from tests.unit.core.namespace.volume import ALICE, ROOT, ROOT_USER, Volume, with_fetches

BLOCKS = {BlockId(bytes([n]) * 32): bytes([65 + n]) * 100 for n in range(8)}
A, B, C, *_ = BLOCKS


@pytest.fixture
def volume() -> Volume:
    return Volume()


@pytest.fixture
def ino(volume: Volume) -> InodeId:
    return volume.create(ROOT, b"f", stat.S_IFREG | 0o666).ino


def _of(block_id: BlockId, offset: int, length: int, at: int = 0) -> Piece:
    return Piece(offset, length, block_id, at, 100)


def _counts(volume: Volume) -> dict[BlockId, int]:
    refs = {block_id: volume.ref(block_id) for block_id in BLOCKS}
    return {block_id: ref.count for block_id, ref in refs.items() if ref is not None}


def test_a_commit_grows_counts_and_stamps(volume: Volume, ino: InodeId) -> None:
    inode = volume.commit(ino, _of(A, 0, 50), Piece(60, 10), _of(B, 100, 100))
    assert (inode.size, inode.stored_bytes, inode.data_version) == (200, 150, 1)
    assert inode.mtime_ns == inode.ctime_ns == volume.now_ns
    assert inode.atime_ns < inode.mtime_ns
    assert _counts(volume) == {A: 1, B: 1}
    assert volume.read(ino, BLOCKS) == b"A" * 50 + bytes(50) + b"B" * 100
    volume.assert_sound()


@pytest.mark.parametrize(
    ("piece", "expected", "counts"),
    [
        # A split: one more extent names the block.
        (_of(B, 40, 20), [(0, 40, A, 0), (40, 20, B, 0), (60, 40, A, 60)], {A: 2, B: 1}),
        (_of(B, 0, 30), [(0, 30, B, 0), (30, 70, A, 30)], {A: 1, B: 1}),
        (_of(B, 70, 30), [(0, 70, A, 0), (70, 30, B, 0)], {A: 1, B: 1}),
        (_of(B, 0, 100), [(0, 100, B, 0)], {A: 0, B: 1}),
        (_of(B, 90, 100), [(0, 90, A, 0), (90, 100, B, 0)], {A: 1, B: 1}),
        (_of(B, 100, 5), [(0, 100, A, 0), (100, 5, B, 0)], {A: 1, B: 1}),
        (Piece(40, 20), [(0, 40, A, 0), (60, 40, A, 60)], {A: 2}),
        (Piece(0, 100), [], {A: 0}),
        (_of(A, 0, 100), [(0, 100, A, 0)], {A: 1}),
        (_of(A, 20, 10, 20), [(0, 100, A, 0)], {A: 1}),
        (_of(A, 100, 10), [(0, 100, A, 0), (100, 10, A, 0)], {A: 2}),
    ],
)
def test_a_piece_over_an_extent(
    volume: Volume,
    ino: InodeId,
    piece: Piece,
    expected: list[tuple[int, int, BlockId, int]],
    counts: dict[BlockId, int],
) -> None:
    volume.commit(ino, _of(A, 0, 100))
    volume.commit(ino, piece)
    assert volume.extents(ino) == [Extent(*fields) for fields in expected]
    assert _counts(volume) == counts
    volume.assert_sound()


def test_holes_grow_the_size_too(volume: Volume, ino: InodeId) -> None:
    inode = volume.commit(ino, Piece(0, 1 << 40))
    assert (inode.size, inode.stored_bytes) == (1 << 40, 0)
    assert volume.extents(ino) == []


def test_a_small_file_is_one_record(volume: Volume, ino: InodeId) -> None:
    for offset in range(0, 1000, 10):
        volume.commit(ino, Piece(offset, 10, inline=b"0123456789"))
    assert volume.extents(ino) == [Extent(0, 1000, inline=b"0123456789" * 100)]
    volume.commit(ino, Piece(5, 3, inline=b"xyz"))
    assert volume.read(ino, {})[:12] == b"01234xyz8901"
    assert len(volume.extents(ino)) == 1


def test_inline_bytes_live_at_the_head_only(volume: Volume, ino: InodeId) -> None:
    ends = Piece(INLINE_BYTES_MAX - 1, 2, inline=b"ab")
    assert volume.errno_of(CommitData, ino=ino, pieces=(ends,)) == errno.EINVAL


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"ino": ROOT, "pieces": (Piece(0, 1),)}, errno.EISDIR),
        ({"ino": 99, "pieces": (Piece(0, 1),)}, errno.ESTALE),
        ({"pieces": ()}, errno.EINVAL),
        ({"pieces": (Piece(FILE_BYTES_MAX, 1),)}, errno.EFBIG),
        ({"pieces": (Piece(0, 1, A, 0, 99),)}, errno.EINVAL),
        ({"pieces": (Piece(0, 100, C, 1, 100),)}, errno.EINVAL),
    ],
)
def test_what_cannot_be_committed(
    volume: Volume, ino: InodeId, fields: dict[str, object], expected: int
) -> None:
    volume.commit(ino, _of(A, 0, 1))
    assert volume.errno_of(CommitData, **{"ino": ino, **fields}) == expected


def test_a_fifo_has_no_content(volume: Volume) -> None:
    fifo = volume.create(ROOT, b"p", stat.S_IFIFO)
    assert volume.errno_of(CommitData, ino=fifo.ino, pieces=(Piece(0, 1),)) == errno.EINVAL


def test_a_condemned_block_is_refused_and_nothing_changes(volume: Volume, ino: InodeId) -> None:
    volume.records[block_key(B)] = BlockRef(0, 100, is_condemned=True)
    pieces = (_of(A, 0, 10), _of(B, 10, 10))
    assert volume.errno_of(CommitData, ino=ino, pieces=pieces) == errno.EAGAIN


def test_an_orphan_can_still_be_written(volume: Volume, ino: InodeId) -> None:
    volume.do(Unlink, parent=ROOT, name=b"f")
    inode = volume.commit(ino, _of(A, 0, 100))
    assert (inode.nlink, inode.size) == (0, 100)
    assert volume.do(SetAttr, ino=ino, size=10).inode is not None
    volume.assert_sound(frozenset({ino}))


def test_a_write_takes_privileges_away(volume: Volume, ino: InodeId) -> None:
    """write(2) by root keeps set-id bits, but not the file's capabilities."""
    volume.do(SetXattr, ino=ino, name=CAPABILITY, value=b"c")
    volume.do(SetAttr, ino=ino, mode=0o6777)
    assert volume.commit(ino, Piece(0, 1), who=ROOT_USER).mode & 0o7777 == 0o6777
    assert list_xattrs(volume, ino) == []
    volume.do(SetXattr, ino=ino, name=CAPABILITY, value=b"c")
    inode = volume.commit(ino, Piece(0, 1), who=ALICE)
    assert (inode.mode & 0o7777, inode.xattr_count) == (0o777, 0)
    volume.assert_sound()


def test_data_from_before_the_attributes_leaves_them(volume: Volume, ino: InodeId) -> None:
    """Goal: what was written before a chmod or a utime and is committed after it changes neither.
    Method: a commit that says so, by someone whose write would take set-uid away."""
    volume.apply(SetAttr(credentials=ROOT_USER, now_ns=7, ino=ino, mode=0o4777, mtime_ns=5))
    commit = CommitData(
        credentials=ALICE, now_ns=99, ino=ino, pieces=(_of(A, 0, 50),), keeps_attributes=True
    )
    inode = volume.apply(commit).inode
    assert inode is not None
    assert (inode.size, inode.stored_bytes, inode.data_version) == (50, 50, 1)
    assert (stat.S_IMODE(inode.mode), inode.mtime_ns, inode.ctime_ns) == (0o4777, 5, 7)
    volume.assert_sound()


def test_extents_are_found_by_range(volume: Volume, ino: InodeId) -> None:
    volume.commit(ino, _of(A, 0, 10), _of(B, 10, 10), _of(C, 50, 10))
    offsets = {
        (start, end): [e.offset for e in extents_touching(volume, ino, start, end, 9)]
        for start, end in ((0, 60), (5, 15), (10, 50), (20, 50), (19, 51), (59, 99), (60, 99))
    }
    assert offsets == {
        (0, 60): [0, 10, 50],
        (5, 15): [0, 10],
        (10, 50): [10],
        (20, 50): [],
        (19, 51): [10, 50],
        (59, 99): [50],
        (60, 99): [],
    }
    assert [e.offset for e in extents_touching(volume, ino, 5, 60, 2)] == [0, 10]
    assert extents_touching(volume, ino, 5, 5, 2) == []
    found = with_fetches(volume, lambda view: extents_touching(view, ino, 5, 60, 2))
    assert [e.offset for e in found] == [0, 10]


# ---------------------------------------------------------------- size


@pytest.mark.parametrize(
    ("size", "stored", "counts"),
    [
        (0, 0, {A: 0, B: 0}),
        (1, 1, {A: 0, B: 0}),
        (100, 20, {A: 0, B: 0}),
        (120, 40, {A: 1, B: 0}),
        (200, 120, {A: 1, B: 0}),
        (210, 120, {A: 1, B: 0}),
        (320, 140, {A: 1, B: 1}),
        (400, 220, {A: 1, B: 1}),
        (9000, 220, {A: 1, B: 1}),
    ],
)
def test_truncate_cuts_and_grows(
    volume: Volume, ino: InodeId, size: int, stored: int, counts: dict[BlockId, int]
) -> None:
    volume.commit(ino, Piece(0, 20, inline=b"i" * 20), _of(A, 100, 100), _of(B, 300, 100))
    before = volume.read(ino, BLOCKS)
    inode = volume.do(SetAttr, ino=ino, size=size).inode
    assert inode is not None
    assert (inode.size, inode.stored_bytes, inode.data_version) == (size, stored, 2)
    assert volume.read(ino, BLOCKS) == before[:size] + bytes(max(0, size - len(before)))
    assert _counts(volume) == counts
    # What was cut off does not come back.
    volume.do(SetAttr, ino=ino, size=500)
    assert volume.read(ino, BLOCKS) == (before[:size] + bytes(500))[:500]
    volume.assert_sound()


def _many_extents(volume: Volume, ino: InodeId, count: int) -> None:
    """`count` extents of alternate blocks, one byte each."""
    for start in range(0, count, PIECES_PER_COMMIT_MAX):
        numbers = range(start, min(count, start + PIECES_PER_COMMIT_MAX))
        volume.commit(ino, *(_of((A, B)[n % 2], 8192 + n, 1, n % 100) for n in numbers))


def test_a_huge_file_is_cut_in_steps_from_its_end(volume: Volume, ino: InodeId) -> None:
    count = 3 * REMOVED_PER_OP_MAX
    _many_extents(volume, ino, count)
    op = SetAttr(ino=ino, size=8000, **volume.stamp(ROOT_USER))
    with pytest.raises(Divide) as caught:
        apply(Overlay(volume), op)
    first = caught.value.first
    assert isinstance(first, TrimTail)
    inode = volume.apply(first).inode
    assert inode is not None
    assert inode.size == 8192 + count - REMOVED_PER_OP_MAX
    assert inode.mtime_ns == inode.ctime_ns == first.now_ns
    volume.assert_sound()
    inode = volume.apply(op).inode
    assert inode is not None
    assert (inode.size, inode.stored_bytes) == (8000, 0)
    assert _counts(volume) == {A: 0, B: 0}
    volume.assert_sound()


def test_a_step_never_cuts_below_its_goal(volume: Volume, ino: InodeId) -> None:
    volume.commit(ino, _of(A, 0, 100), _of(B, 200, 100))
    inode = volume.do(TrimTail, ino=ino, size=50).inode
    assert inode is not None
    assert (inode.size, inode.stored_bytes) == (50, 50)
    unchanged = volume.do(TrimTail, ino=ino, size=50).inode
    assert unchanged == inode
    assert volume.do(TrimTail, ino=ROOT, size=0).inode == volume.inode(ROOT)


def test_overwriting_very_many_extents_goes_in_steps(volume: Volume, ino: InodeId) -> None:
    count = 2000
    _many_extents(volume, ino, count)
    big = BlockId(b"big!" * 8)
    piece = Piece(8192 + 5, count - 10, big, 0, 5000)
    op = CommitData(ino=ino, pieces=(piece,), **volume.stamp(ALICE))
    with pytest.raises(Divide) as caught:
        apply(Overlay(volume), op)
    first = caught.value.first
    assert isinstance(first, CommitData)
    assert first.pieces[0].offset == piece.offset
    assert 0 < first.pieces[0].length < piece.length
    volume.apply(op)
    assert len(volume.extents(ino)) == 11
    assert _counts(volume) == {A: 5, B: 5}
    ref = volume.ref(big)
    assert ref is not None
    assert ref.count == 1
    volume.assert_sound()


def test_many_pieces_over_many_extents_go_in_steps(volume: Volume, ino: InodeId) -> None:
    _many_extents(volume, ino, 2000)
    numbers = range(PIECES_PER_COMMIT_MAX)
    pieces = tuple(_of(C, 8192 + n * 20, 15, n % 80) for n in numbers)
    volume.apply(CommitData(ino=ino, pieces=pieces, **volume.stamp(ALICE)))
    assert _counts(volume)[C] == PIECES_PER_COMMIT_MAX
    volume.assert_sound()
    before = volume.extents(ino)
    # Again: all is in place already, so nothing is divided and nothing counted twice.
    again = CommitData(ino=ino, pieces=pieces, **volume.stamp(ALICE))
    apply(Overlay(volume), again)
    volume.apply(again)
    assert volume.extents(ino) == before


# ---------------------------------------------------------------- damage


def test_contradictions_are_told_not_asserted(volume: Volume, ino: InodeId) -> None:
    volume.commit(ino, _of(A, 0, 100))
    overlapping = extent_key(ino, 50)
    volume.records[overlapping] = Extent(50, 100, B)
    assert volume.errno_of(CommitData, ino=ino, pieces=(_of(C, 40, 20),)) == errno.EIO
    del volume.records[overlapping]
    inode = volume.inode(ino)
    volume.records[inode_key(ino)] = replace(inode, stored_bytes=5)
    assert volume.errno_of(SetAttr, ino=ino, size=0) == errno.EIO
    volume.records[inode_key(ino)] = inode
    del volume.records[block_key(A)]
    assert volume.errno_of(CommitData, ino=ino, pieces=(_of(C, 40, 20),)) == errno.EIO


# ---------------------------------------------------------------- random files


@st.composite
def some_change(draw: st.DrawFn) -> tuple[Piece, ...] | int:
    """Pieces of one commit, or a size to cut or grow to."""
    if draw(st.integers(0, 4)) == 0:
        return draw(st.integers(0, 600))
    made, end = [], 0
    for _ in range(draw(st.integers(1, 4))):
        offset = end + draw(st.integers(0, 100))
        kind = draw(st.sampled_from(["hole", "inline", *BLOCKS]))
        length = draw(st.integers(1, 60))
        if kind == "inline":
            made.append(Piece(offset, length, inline=bytes([draw(st.integers(1, 9))]) * length))
        elif isinstance(kind, bytes):
            made.append(_of(BlockId(kind), offset, length, draw(st.integers(0, 40))))
        else:
            made.append(Piece(offset, length))
        end = offset + length
    return tuple(made)


@given(st.lists(some_change(), min_size=1, max_size=12))
def test_random_changes_read_back(changes: list[tuple[Piece, ...] | int]) -> None:
    volume = Volume()
    ino = volume.create(ROOT, b"f").ino
    content = bytearray()
    for change in changes:
        if isinstance(change, int):
            volume.do(SetAttr, ino=ino, size=change)
            content = content[:change].ljust(change, b"\0")
        else:
            volume.commit(ino, *change)
            for piece in change:
                end = piece.offset + piece.length
                content = content.ljust(end, b"\0")
                source = piece.inline or bytes(piece.length)
                if piece.block_id:
                    source = BLOCKS[piece.block_id][piece.block_offset :][: piece.length]
                content[piece.offset : end] = source
        assert volume.read(ino, BLOCKS) == content
        volume.assert_sound()


def test_an_unexpected_kind_of_error_is_not_swallowed(volume: Volume, ino: InodeId) -> None:
    with pytest.raises(FsError):
        apply(Overlay(volume), CommitData(ino=ino, pieces=(), **volume.stamp(ALICE)))
