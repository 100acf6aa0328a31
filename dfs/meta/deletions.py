"""Which uploads a commit may still rely on when blocks were deleted meanwhile (I1, I6).

A block that nobody names is condemned, deleted everywhere, forgotten. A client may have uploaded
the same content just before its copies went ("it is there already"), and send its commit just after
the block was forgotten: that commit must not succeed. So deletions are numbered. A client says with
each commit which number it knew when the uploads *began*, and learns the newest number with every
keep-alive. The number grows when all chunk servers have answered a deletion, before anything is
forgotten; a commit of older uploads that names a block without a record is refused (EAGAIN), and
the client uploads again. No step trusts a clock.

Numbers of different owners of the shard never meet: they begin with its epoch. A new owner does not
know what the one before it forgot, so it refuses all uploads from before its time once.

The order of a deletion lets a chunk server refuse one that was overtaken: a request that lingered
on a broken link must not delete what was uploaded since.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from dfs.core.namespace.keys import block_key
from dfs.core.namespace.records import BlockRef
from dfs.core.namespace.view import Together
from dfs.errors import FsError

if TYPE_CHECKING:
    from dfs.core.namespace.ops import CommitData
    from dfs.core.namespace.view import View
    from dfs.types import ShardEpoch

_COUNTER_BITS = 32


class Deletions:
    """Counts deletions, and refuses commits that rely on uploads from before one."""

    def __init__(self, shard_epoch: ShardEpoch) -> None:
        assert shard_epoch > 0
        self._order = shard_epoch << _COUNTER_BITS
        self.number = self._order
        """What clients are told. Uploads that began under it are later than everything deleted."""

    def next_order(self) -> int:
        """For the next request to delete; grows."""
        self._order += 1
        return self._order

    def finish(self) -> None:
        """All chunk servers have deleted what the latest order named; it may be forgotten."""
        assert self._order > self.number
        self.number = self._order

    def check(self, view: View, op: CommitData) -> None:
        """Raises FsError(EAGAIN) if a block of the op may have been deleted since it was uploaded;
        Missing."""
        if op.uploaded_since is None or op.uploaded_since >= self.number:
            return
        named = dict.fromkeys(piece.block_id for piece in op.pieces if piece.block_id)
        with Together(view) as reads:
            refs = [reads.get(block_key(block_id), BlockRef) for block_id in named]
        for block_id, ref in zip(named, refs, strict=True):
            if ref is None:
                raise FsError(errno.EAGAIN, f"block {block_id.hex()} was uploaded too long ago")
