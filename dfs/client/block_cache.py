"""Verified plain frames of blocks, the least recently used dropped first. Blocks never change, so
nothing here is ever stale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dfs.limits import FRAME_BYTES

if TYPE_CHECKING:
    from dfs.types import BlockId

FrameKey = tuple["BlockId", int]
"""Block and index of the frame in it."""
OVERHEAD_BYTES: Final = 256
"""What an entry costs beside its bytes."""


class BlockCache:
    """At most `bytes_max` of frames."""

    def __init__(self, bytes_max: int) -> None:
        assert bytes_max > 0
        self._bytes_max = bytes_max
        self._frames: dict[FrameKey, bytes] = {}
        """Least recently used first."""
        self.byte_count = 0
        self.hit_count = self.miss_count = 0
        """Frames that readers asked for, found here or not."""

    def get(self, key: FrameKey) -> bytes | None:
        """The frame, which is then the most recently used."""
        frame = self._frames.pop(key, None)
        if frame is None:
            self.miss_count += 1
        else:
            self.hit_count += 1
            self._frames[key] = frame
        return frame

    def __contains__(self, key: FrameKey) -> bool:
        return key in self._frames

    def put(self, key: FrameKey, frame: bytes) -> None:
        """Keep a verified frame (I2)."""
        assert frame
        old = self._frames.pop(key, None)
        if old is not None:
            self.byte_count -= len(old) + OVERHEAD_BYTES
        self._frames[key] = frame
        self.byte_count += len(frame) + OVERHEAD_BYTES
        while self.byte_count > self._bytes_max:
            oldest = next(iter(self._frames))
            self.byte_count -= len(self._frames.pop(oldest)) + OVERHEAD_BYTES
        assert self.byte_count >= 0

    def put_block(self, block_id: BlockId, first_frame: int, plain: bytes | bytearray) -> None:
        """Keep verified bytes that begin at a frame and end at one, or with the block."""
        assert plain
        for index, start in enumerate(range(0, len(plain), FRAME_BYTES)):
            self.put((block_id, first_frame + index), bytes(plain[start : start + FRAME_BYTES]))
