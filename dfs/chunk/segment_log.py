"""The segment that is being written: records are placed, then flushed together with one sync.

Blocking; called by one thread at a time. What a record means is not known here.

    state     means                                        leaves when
    closed    no segment takes records                     `roll` → open
    open      records go behind `synced_end`               a write or sync failed → cut back: open
                                                           again, or closed when that is not sure

After a sync that failed, what was written since the one before is lost for us, whatever a later
read or sync says: Linux marks the pages clean although they never reached the disk. The segment is
cut to what was synced and never written again.
"""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING, Final

from dfs.core.segments import (
    SEGMENT_HEADER_BYTES,
    RecordKind,
    encode_record_start,
    encode_segment_header,
    record_bytes,
    segment_key,
)
from dfs.errors import DfsError, NoSpace

if TYPE_CHECKING:
    from dfs.chunk.disk import Buffer, Disk
    from dfs.chunk.identity import Identity

SEGMENTS_DIRECTORY: Final = "segments"
_SUFFIX: Final = ".segment"
_SPACE_ERRNOS: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

logger = logging.getLogger(__name__)


def segment_name(number: int) -> str:
    """The file of a segment, below the data directory."""
    assert number > 0
    return f"{SEGMENTS_DIRECTORY}/{number:012d}{_SUFFIX}"


def list_segments(disk: Disk) -> list[int]:
    """Numbers of the segment files there are, ascending. Other files are none of ours."""
    stems = [name.removesuffix(_SUFFIX) for name in disk.list(SEGMENTS_DIRECTORY)]
    numbers = sorted(int(stem) for stem in stems if stem.isascii() and stem.isdigit())
    return [number for number in numbers if number > 0]


def disk_failure(error: OSError, what: str) -> DfsError:
    """The dfs error for a failed system call: NoSpace when the disk is full."""
    kind = NoSpace if error.errno in _SPACE_ERRNOS else DfsError
    return kind(f"{what}: {error.strerror or error}")


class SegmentLog:
    """Appends records to numbered segments. Owner: the store's writer."""

    def __init__(self, disk: Disk, identity: Identity, *, segment_bytes_max: int) -> None:
        assert segment_bytes_max > SEGMENT_HEADER_BYTES
        self._disk = disk
        self._identity = identity
        self._segment_bytes_max = segment_bytes_max
        self._number = 0
        self._is_open = False
        self._key = b""
        self._synced_end = 0
        self._placed_end = 0
        self._buffers: list[Buffer] = []

    @property
    def number(self) -> int:
        """The newest segment; 0 before the first."""
        return self._number

    @property
    def placed_end(self) -> int:
        """Where the next record goes."""
        return self._placed_end

    def resume(self, number: int, end: int, *, is_writable: bool) -> None:
        """Go on behind what recovery found. Everything below `end` is on stable storage."""
        assert not self._is_open
        assert end >= SEGMENT_HEADER_BYTES
        self._open(number, end)
        self._is_open = is_writable

    def has_room(self, size: int) -> bool:
        """Whether records of `size` bytes may go into the open segment. Any size fits an empty
        one."""
        if not self._is_open:
            return False
        is_empty = self._placed_end == SEGMENT_HEADER_BYTES
        return is_empty or self._placed_end + size <= self._segment_bytes_max

    def roll(self) -> int:
        """Begin the next segment; its name is durable when this returns. Returns its number.

        Raises NoSpace and DfsError; then no segment is open and the next roll tries again.
        """
        assert not self._buffers
        number = self._number + 1
        self._is_open = False
        name = segment_name(number)
        try:
            self._disk.write_at(
                name, 0, [encode_segment_header(self._identity.segment_header(number))]
            )
            self._disk.sync(name)
            self._disk.sync_directory(SEGMENTS_DIRECTORY)
        except OSError as error:
            self._discard(name)
            raise disk_failure(error, f"segment {number} cannot be made") from error
        self._open(number, SEGMENT_HEADER_BYTES)
        self._is_open = True
        return number

    def place(
        self, kind: RecordKind, encoded_header: bytes, payload: Buffer, checksum: bytes
    ) -> int:
        """Add a record to what the next flush writes. Returns its offset."""
        offset = self._placed_end
        assert self._is_open
        start = encode_record_start(
            self._key, offset, kind, encoded_header, (len(payload), checksum)
        )
        self._buffers.append(start)
        if len(payload):
            self._buffers.append(payload)
        self._placed_end += record_bytes(len(encoded_header), len(payload))
        assert self._placed_end == offset + len(start) + len(payload)
        return offset

    def flush(self) -> int:
        """Write what was placed, with one sync; all of it is durable when this returns (I3).
        Returns the segment's end.

        Raises NoSpace and DfsError; then nothing of it counts.
        """
        assert self._is_open
        name = segment_name(self._number)
        try:
            self._disk.write_at(name, self._synced_end, self._buffers)
        except OSError as error:
            self._cut_back(is_trusted=True)
            raise disk_failure(error, f"segment {self._number} cannot be written") from error
        try:
            self._disk.sync(name)
        except OSError as error:
            self._cut_back(is_trusted=False)
            logger.error("segment %d: sync failed, sealed: %s", self._number, error)
            raise disk_failure(error, f"segment {self._number} cannot be synced") from error
        self._buffers.clear()
        self._synced_end = self._placed_end
        return self._synced_end

    def drop_placed(self) -> None:
        """Forget what was placed and not flushed."""
        self._buffers.clear()
        self._placed_end = self._synced_end

    def _open(self, number: int, end: int) -> None:
        assert number >= self._number
        self._number = number
        self._key = segment_key(self._identity.server_id, number)
        self._synced_end = self._placed_end = end

    def _cut_back(self, *, is_trusted: bool) -> None:
        """Remove what a failed flush may have left. A segment stays open only if that worked and
        its sync can be trusted."""
        self.drop_placed()
        try:
            self._disk.truncate(segment_name(self._number), self._synced_end)
        except OSError as error:
            logger.error("segment %d cannot be cut back, sealed: %s", self._number, error)
            is_trusted = False
        self._is_open = is_trusted

    def _discard(self, name: str) -> None:
        """Remove a segment that could not be made, so that nothing half made is found later."""
        try:
            self._disk.remove(name)
        except FileNotFoundError:
            return
        except OSError as error:
            logger.warning("%s cannot be removed: %s", name, error)
