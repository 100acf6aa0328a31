"""Pending blocks on their way to the cluster, who waits for them, and the op that makes them a
file's content."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from dfs.core.namespace.ops import CommitData

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dfs.client.open_files import OpenFile
    from dfs.core.pending import PendingBlock
    from dfs.errors import DfsError
    from dfs.types import BlockId


UPLOAD_AGAIN_S: Final = 0.5
"""What a collector took meanwhile is uploaded again after so long."""


class Upload:
    """One pending block on its way."""

    __slots__ = ("block", "block_id", "error", "is_dropped", "is_over", "since")

    def __init__(self, block: PendingBlock) -> None:
        self.block = block
        self.block_id: BlockId | None = None
        """Where it is stored, once `is_over`; None for inline bytes and for a hole."""
        self.since = 0
        """The delete_number that was known when the upload began; see CommitData."""
        self.error: DfsError | None = None
        self.is_dropped = False
        self.is_over = trio.Event()


class FlushTicket:
    """Someone waits for a round. `takes_rest`: everything dirty, not only what is uploading."""

    __slots__ = ("error", "is_over", "takes_rest")

    def __init__(self, *, takes_rest: bool) -> None:
        self.takes_rest = takes_rest
        self.error: DfsError | None = None
        self.is_over = trio.Event()


def commit_of(file: OpenFile, kept: Sequence[Upload]) -> CommitData:
    """What makes these blocks the file's content. Some of them have parts."""
    assert file.writer is not None
    pieces = [piece for u in kept for piece in u.block.pieces(u.block_id)]
    pieces.sort(key=lambda piece: piece.offset)
    return CommitData(
        credentials=file.writer,
        now_ns=file.last_write_ns,
        ino=file.ino,
        pieces=tuple(pieces),
        uploaded_since=min((u.since for u in kept if u.block_id), default=None),
        keeps_attributes=file.keeps_attributes,
    )
