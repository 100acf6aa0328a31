"""Who a chunk server is: its own id, its cluster's, kept in `server.json` of its data directory."""

from __future__ import annotations

import errno
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec

from dfs.chunk.segment_log import SEGMENTS_DIRECTORY, list_segments, segment_name
from dfs.core.segments import SEGMENT_HEADER_BYTES, SegmentHeader, decode_segment_header
from dfs.errors import FormatTooNew, UserError, WrongCluster
from dfs.types import ClusterId, ServerId

if TYPE_CHECKING:
    import random

    from dfs.chunk.disk import Disk

DATA_FORMAT_VERSION: Final = 1
IDENTITY_NAME: Final = "server.json"
LOCK_NAME: Final = "lock"
SERVER_ID_DIGITS: Final = 16
CLUSTER_ID_DIGITS_MAX: Final = 32
_NEW_NAME: Final = "server.json.new"
_IDENTITY_BYTES_MAX: Final = 4096

logger = logging.getLogger(__name__)


class _Stored(msgspec.Struct):
    format_version: int
    server_id: str
    cluster_id: str = ""


class Identity:
    """The ids of one chunk server. `cluster_id` is empty until the first report was answered."""

    def __init__(self, disk: Disk, server_id: ServerId, cluster_id: ClusterId) -> None:
        assert len(server_id) == SERVER_ID_DIGITS
        assert len(cluster_id) <= CLUSTER_ID_DIGITS_MAX
        self._disk = disk
        self._server_id = server_id
        self._cluster_id = cluster_id

    @property
    def server_id(self) -> ServerId:
        return self._server_id

    @property
    def cluster_id(self) -> ClusterId:
        return self._cluster_id

    def segment_header(self, number: int) -> SegmentHeader:
        """The file header of this server's segment `number`."""
        return SegmentHeader(number=number, server_id=self._server_id, cluster_id=self._cluster_id)

    def join(self, cluster_id: ClusterId) -> None:
        """Belong to this cluster from now on; durable when it returns. Blocking. Raises
        WrongCluster when it belongs to another."""
        assert cluster_id
        if self._cluster_id == cluster_id:
            return
        if self._cluster_id or len(cluster_id) > CLUSTER_ID_DIGITS_MAX:
            raise WrongCluster(
                f"this data directory belongs to cluster {self._cluster_id or 'none'}, "
                f"the metadata server to {cluster_id}"
            )
        self._write(cluster_id)
        self._cluster_id = cluster_id

    def _write(self, cluster_id: ClusterId) -> None:
        stored = _Stored(DATA_FORMAT_VERSION, self._server_id, cluster_id)
        text = msgspec.json.format(msgspec.json.encode(stored), indent=2) + b"\n"
        with suppress(FileNotFoundError):
            self._disk.remove(_NEW_NAME)
        self._disk.write_at(_NEW_NAME, 0, [text])
        self._disk.sync(_NEW_NAME)
        self._disk.rename(_NEW_NAME, IDENTITY_NAME)
        self._disk.sync_directory()

    @classmethod
    def open(cls, disk: Disk, random_source: random.Random, place: str) -> Identity:
        """The identity kept on the disk, or a new one, durable. Blocking; locks the directory.

        `place` names the directory in errors. A lost `server.json` is made again from a segment.
        Raises UserError when another server uses the directory, FormatTooNew.
        """
        _lock(disk, place)
        disk.make_directory(SEGMENTS_DIRECTORY)
        stored = _read(disk, place)
        if stored is not None:
            return cls(disk, ServerId(stored.server_id), ClusterId(stored.cluster_id))
        header = _any_segment_header(disk)
        if header is None:
            identity = cls(disk, ServerId(f"{random_source.getrandbits(64):016x}"), ClusterId(""))
        else:
            logger.warning("%s: %s is lost, taken from a segment", place, IDENTITY_NAME)
            identity = cls(disk, header.server_id, header.cluster_id)
        identity._write(identity.cluster_id)
        return identity


def _lock(disk: Disk, place: str) -> None:
    try:
        disk.lock(LOCK_NAME)
    except BlockingIOError as error:
        raise UserError(f"{place}: another chunk server is using this directory") from error
    except OSError as error:
        raise UserError(f"{place}: cannot be locked: {error.strerror or error}") from error


def _read(disk: Disk, place: str) -> _Stored | None:
    """What `server.json` says; None when it is absent or makes no sense."""
    try:
        text = disk.read_at(IDENTITY_NAME, 0, _IDENTITY_BYTES_MAX)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise UserError(f"{place}/{IDENTITY_NAME}: {error.strerror or error}") from error
        return None
    try:
        stored = msgspec.json.decode(text, type=_Stored)
    except (msgspec.DecodeError, UnicodeDecodeError):
        logger.warning("%s/%s makes no sense", place, IDENTITY_NAME)
        return None
    if stored.format_version > DATA_FORMAT_VERSION:
        raise FormatTooNew(
            f"{place}: data format {stored.format_version} was written by a newer dfs; "
            f"this one reads up to {DATA_FORMAT_VERSION}"
        )
    is_whole = len(stored.server_id) == SERVER_ID_DIGITS and stored.server_id.isascii()
    return stored if is_whole else None


def _any_segment_header(disk: Disk) -> SegmentHeader | None:
    for number in list_segments(disk):
        header = decode_segment_header(disk.read_at(segment_name(number), 0, SEGMENT_HEADER_BYTES))
        if header is not None and header.number == number:
            return header
    return None
