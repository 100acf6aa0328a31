"""Blocks: names, frames, what is compressed, and that damage never gets through (I2)."""

from __future__ import annotations

import random
import threading

import msgspec
import pytest
import zstandard
from blake3 import blake3

from dfs.core.blocks import (
    PROBE_STRIDE,
    block_id_of,
    decode_frames,
    encode_block,
    frame_count,
    frame_length,
    frame_span,
    frames_touching,
    hash_frames,
    stored_length,
    verify_header,
)
from dfs.core.messages import BlockHeader, FrameHeader
from dfs.errors import CorruptBlock
from dfs.limits import BLOCK_BYTES_MAX, FRAME_BYTES, MIB
from dfs.types import BlockId

TEXT = b"".join(b"line %d of a text that compresses well enough\n" % n for n in range(30_000))[:MIB]
NOISE = random.Random(1).randbytes(MIB)
SIZES = [1, 2, 100, FRAME_BYTES - 1, FRAME_BYTES, FRAME_BYTES + 1, 3 * FRAME_BYTES, MIB - 7, MIB]


def joined(plain: bytes, *, level: int = 1) -> tuple[BlockHeader, bytes]:
    header, stored = encode_block(plain, level=level)
    return header, b"".join(stored)


def with_frame(header: BlockHeader, index: int, **changes: object) -> BlockHeader:
    """The header with one frame's fields changed."""
    frames = list(header.frames)
    frames[index] = msgspec.structs.replace(frames[index], **changes)
    return msgspec.structs.replace(header, frames=tuple(frames))


# ---------------------------------------------------------------- names


def test_the_name_is_the_hash_of_the_frames_hashes() -> None:
    plain = TEXT[: FRAME_BYTES + 5]
    hashes = blake3(plain[:FRAME_BYTES]).digest() + blake3(plain[FRAME_BYTES:]).digest()
    header, _ = encode_block(plain)
    assert header.block_id == blake3(hashes).digest()
    assert block_id_of(hash_frames(plain)) == header.block_id


def test_names_never_change_from_release_to_release() -> None:
    golden = {
        b"a": "95066d9dceb0f4d60f229ef14f6fd26e692c21e480a582808975e55e39bee1a6",
        bytes(FRAME_BYTES + 1): "45dc186aa4af272b969780d96c8feba3bf6efba08801b0bd64015c9d4a883abf",
    }
    assert [block_id_of(hash_frames(plain)).hex() for plain in golden] == list(golden.values())


@pytest.mark.parametrize("level", [0, 1, 3, 19])
def test_the_name_does_not_depend_on_how_frames_are_stored(level: int) -> None:
    plain = TEXT[: 3 * FRAME_BYTES]
    header, stored = joined(plain, level=level)
    assert header.block_id == block_id_of(hash_frames(plain))
    assert decode_frames(header, stored) == plain
    assert (len(stored) == len(plain)) == (level == 0)


# ---------------------------------------------------------------- frames


@pytest.mark.parametrize("size", [*SIZES, BLOCK_BYTES_MAX])
@pytest.mark.parametrize("source", [TEXT, NOISE], ids=["text", "noise"])
def test_what_was_encoded_is_decoded(size: int, source: bytes) -> None:
    plain = (source * (size // len(source) + 1))[:size]
    header, stored = joined(plain)
    assert header.length == size
    assert len(header.frames) == frame_count(size)
    assert len(stored) == stored_length(header) <= size
    assert sum(frame_length(header, index) for index in range(len(header.frames))) == size
    assert decode_frames(header, stored) == plain


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_is_taken(kind: type) -> None:
    header, stored = encode_block(kind(NOISE[:100_000]))
    assert decode_frames(header, kind(b"".join(stored))) == NOISE[:100_000]


def test_raw_frames_are_not_copied() -> None:
    plain = bytearray(NOISE[:FRAME_BYTES])
    _, [stored] = encode_block(plain)
    assert isinstance(stored, memoryview)
    assert stored.obj is plain


def test_every_run_of_frames_decodes_alone() -> None:
    plain = NOISE[:FRAME_BYTES] + TEXT[: 3 * FRAME_BYTES] + NOISE[:1000]
    header, stored = joined(plain)
    for first in range(5):
        for end in range(first + 1, 6):
            offset, length = frame_span(header, first, end)
            part = memoryview(stored)[offset : offset + length]
            expected = plain[first * FRAME_BYTES : end * FRAME_BYTES]
            assert decode_frames(header, part, first, end) == expected
    assert frame_span(header, 2, 2)[1] == 0
    assert frame_span(header, 0, 5) == (0, len(stored))


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, 1, (0, 1)),
        (0, FRAME_BYTES, (0, 1)),
        (FRAME_BYTES - 1, FRAME_BYTES + 1, (0, 2)),
        (FRAME_BYTES, 2 * FRAME_BYTES, (1, 2)),
        (0, BLOCK_BYTES_MAX, (0, BLOCK_BYTES_MAX // FRAME_BYTES)),
    ],
)
def test_frames_touching_a_range(start: int, end: int, expected: tuple[int, int]) -> None:
    assert frames_touching(start, end) == expected


@pytest.mark.parametrize("size", [0, BLOCK_BYTES_MAX + 1])
def test_a_block_of_no_or_too_many_bytes_is_our_bug(size: int) -> None:
    with pytest.raises(AssertionError):
        encode_block(bytes(size))


# ---------------------------------------------------------------- what is compressed


def compressed(plain: bytes) -> str:
    """One letter per frame: c compressed, r raw."""
    header, _ = encode_block(plain)
    return "".join("c" if frame.is_compressed else "r" for frame in header.frames)


def test_a_frame_is_compressed_only_if_that_saves_a_sixteenth() -> None:
    assert compressed(TEXT[:FRAME_BYTES]) == "c"
    assert compressed(NOISE[:FRAME_BYTES]) == "r"
    sixteenth = FRAME_BYTES // 16
    for zeros, expected in [(sixteenth // 2, "r"), (2 * sixteenth, "c")]:
        assert compressed(NOISE[: FRAME_BYTES - zeros] + bytes(zeros)) == expected
    assert compressed(b"a") == "r"


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("tttttttttttttttt", "cccccccccccccccc"),
        ("nnnnnnnnnnnnnnnn", "rrrrrrrrrrrrrrrr"),
        # A run of as many frames as probes are apart is found wherever it is …
        ("ntttttnnnnnnnnnn", "rcccccrrrrrrrrrr"),
        ("nntttttnnnnnnnnn", "rrcccccrrrrrrrrr"),
        ("nnnntttttnnnnnnn", "rrrrcccccrrrrrrr"),
        ("tttttnnnnnnnnnnn", "cccccrrrrrrrrrrr"),
        ("nnnnnnnnnnnttttt", "rrrrrrrrrrrccccc"),
        # … a shorter one only at or beside a probe that pays.
        ("nttttnnnnnnnnnnn", "rrrrrrrrrrrrrrrr"),
        ("nnnntttttttnnnnn", "rrrrcccccccrrrrr"),
        ("ntt", "rcc"),
        ("tnn", "crr"),
        ("tntnt", "crcrc"),
    ],
)
def test_incompressible_data_is_noticed_and_mixed_blocks_are_not_missed(
    pattern: str, expected: str
) -> None:
    assert PROBE_STRIDE == 5
    frames = {"t": TEXT[:FRAME_BYTES], "n": NOISE[:FRAME_BYTES]}
    assert compressed(b"".join(frames[kind] for kind in pattern)) == expected


# ---------------------------------------------------------------- damage


def test_no_flipped_bit_gets_through() -> None:
    plain = NOISE[:FRAME_BYTES] + TEXT[: FRAME_BYTES + 100]
    header, stored = joined(plain)
    assert [frame.is_compressed for frame in header.frames] == [False, True, True]
    chooser = random.Random(2)
    spots = [0, FRAME_BYTES - 1, FRAME_BYTES, len(stored) - 1]
    for spot in [*spots, *(chooser.randrange(len(stored)) for _ in range(300))]:
        damaged = bytearray(stored)
        damaged[spot] ^= 1 << chooser.randrange(8)
        # zstd has bits that mean nothing; then what comes out is right.
        try:
            assert decode_frames(header, damaged) == plain
        except CorruptBlock as error:
            assert header.block_id.hex()[:16] in str(error)  # noqa: PT017
        else:
            assert spot >= FRAME_BYTES


def test_raw_damage_is_told_with_block_and_frame() -> None:
    header, stored = joined(NOISE)
    damaged = bytearray(stored)
    damaged[5 * FRAME_BYTES] ^= 1
    with pytest.raises(CorruptBlock) as caught:
        decode_frames(header, damaged)
    assert str(caught.value) == f"block {header.block_id.hex()[:16]} has wrong bytes in frame 5"
    good = memoryview(damaged)[: 5 * FRAME_BYTES]
    assert decode_frames(header, good, 0, 5) == NOISE[: 5 * FRAME_BYTES]


@pytest.mark.parametrize("change", [-1, 1])
def test_stored_bytes_of_another_length_are_refused(change: int) -> None:
    header, stored = joined(TEXT)
    changed = stored[:change] if change < 0 else stored + b"\0"
    with pytest.raises(CorruptBlock, match="stored bytes instead of"):
        decode_frames(header, changed)


def test_the_header_of_another_block_does_not_fit() -> None:
    header, stored = joined(TEXT)
    other, _ = joined(NOISE)
    renamed = msgspec.structs.replace(header, block_id=other.block_id)
    with pytest.raises(CorruptBlock, match="another id"):
        decode_frames(renamed, stored)
    with pytest.raises(CorruptBlock):
        decode_frames(other, stored)


@pytest.mark.parametrize(
    "changes",
    [
        {"block_id": BlockId(bytes(32))},
        {"block_id": BlockId(b"")},
        {"length": 0},
        {"length": -1},
        {"length": MIB + 1},
        {"length": BLOCK_BYTES_MAX + 1},
        {"frames": ()},
    ],
    ids=str,
)
def test_a_header_that_makes_no_sense_is_refused(changes: dict[str, object]) -> None:
    header, stored = joined(NOISE)
    wrong = msgspec.structs.replace(header, **changes)
    with pytest.raises(CorruptBlock):
        verify_header(wrong)
    with pytest.raises(CorruptBlock):
        decode_frames(wrong, stored)


@pytest.mark.parametrize(
    "changes",
    [
        {"stored_bytes": FRAME_BYTES - 1},
        {"stored_bytes": FRAME_BYTES + 1},
        {"stored_bytes": -1},
        {"stored_bytes": 0, "is_compressed": True},
        {"stored_bytes": FRAME_BYTES, "is_compressed": True},
        {"frame_hash": bytes(32)},
        {"frame_hash": b""},
        {"frame_hash": bytes(33)},
    ],
    ids=str,
)
def test_a_frame_that_makes_no_sense_is_refused(changes: dict[str, object]) -> None:
    header, stored = joined(NOISE)
    wrong = with_frame(header, 3, **changes)
    with pytest.raises(CorruptBlock):
        decode_frames(wrong, stored)


def test_hashes_may_not_shift_between_frames() -> None:
    """Two hashes of 31 and 33 bytes join to the same 64 bytes, and so to the same id."""
    header, stored = joined(NOISE[: 2 * FRAME_BYTES])
    both = header.frames[0].frame_hash + header.frames[1].frame_hash
    shifted = with_frame(with_frame(header, 0, frame_hash=both[:31]), 1, frame_hash=both[31:])
    with pytest.raises(CorruptBlock, match="a hash of 31 bytes in frame 0"):
        decode_frames(shifted, stored)


def made_by_hand(plain: bytes, stored: bytes) -> BlockHeader:
    """A header with the right hashes over whatever bytes."""
    frame_hash = blake3(plain).digest()
    frame = FrameHeader(frame_hash, len(stored), is_compressed=True)
    return BlockHeader(block_id_of([frame_hash]), len(plain), (frame,))


def test_a_decompression_bomb_does_not_go_off() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(64 * MIB))
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(64 * MIB))
    assert len(bomb) < FRAME_BYTES
    for stored in (bomb, unsized):
        with pytest.raises(CorruptBlock, match="a wrong size in frame 0"):
            decode_frames(made_by_hand(bytes(FRAME_BYTES), stored), stored)
    # The claimed size is small, what comes out would not be.
    lying = zstandard.ZstdCompressor().compress(bytes(FRAME_BYTES)) + bomb
    with pytest.raises(CorruptBlock, match="undecodable"):
        decode_frames(made_by_hand(bytes(FRAME_BYTES), lying), lying)


@pytest.mark.parametrize("stored", [b"x", b"not zstd at all", bytes(100)])
def test_what_is_not_zstd_is_corrupt(stored: bytes) -> None:
    with pytest.raises(CorruptBlock, match="undecodable bytes in frame 0"):
        decode_frames(made_by_hand(TEXT[:1000], stored), stored)


def test_every_frame_from_one_hash_but_other_bytes_is_refused() -> None:
    stored = zstandard.ZstdCompressor().compress(TEXT[:1000])
    with pytest.raises(CorruptBlock, match="wrong bytes in frame 0"):
        decode_frames(made_by_hand(TEXT[1000:2000], stored), stored)


# ---------------------------------------------------------------- threads


def test_many_threads_encode_and_decode_at_once() -> None:
    sources = [(TEXT[start:] + NOISE)[: 5 * FRAME_BYTES] for start in range(0, 80_000, 10_000)]
    expected = [joined(plain) for plain in sources]
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(10):
                for plain, (header, stored) in zip(sources, expected, strict=True):
                    assert joined(plain) == (header, stored)
                    assert decode_frames(header, stored) == plain
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert not errors
