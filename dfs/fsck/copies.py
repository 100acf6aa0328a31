"""The copies of every block that extents name: are there enough, and do they have the right bytes?

| a block has | and | it is |
|---|---|---|
| no readable copy | all servers answer | an error: its bytes are lost (I1) |
| no readable copy | a server does not answer | an error that says so: they may be there |
| fewer than wanted | | a warning |
| a copy with wrong bytes | | an error (I2); mended from a good copy if there is one |

The cluster may be in use. What looks wrong is asked for once more, everywhere, and forgotten if no
extent names the block any more: its file was removed while we looked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from dfs.core.namespace import keys
from dfs.core.namespace.records import BlockRef, Extent, decode_record
from dfs.errors import DfsError
from dfs.fsck.fix import copy_blocks
from dfs.fsck.metadata import ExportLost
from dfs.fsck.presence import Presence
from dfs.fsck.report import LISTED_MAX, ignore_progress
from dfs.fsck.subjects import Subjects

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dfs.core.namespace.census import Census
    from dfs.fsck.metadata import Metadata
    from dfs.fsck.report import Problems, Progress
    from dfs.fsck.servers import ChunkServers
    from dfs.types import BlockId

FILES_NAMED_MAX = 10
"""Paths that are listed for one lost block."""


class Copies:
    """The copies of the blocks that one census names."""

    def __init__(
        self,
        metadata: Metadata,
        servers: ChunkServers,
        census: Census,
        progress: Progress,
        *,
        verify_data: bool,
    ) -> None:
        self._metadata = metadata
        self._servers = servers
        self._census = census
        self._subjects = Subjects(census)
        self._progress = progress
        self._verify_data = verify_data
        self.presence = Presence(servers, census.block_uses)
        self.not_copied: list[str] = []
        """What could not be mended, in words."""

    @property
    def wanted(self) -> int:
        """Copies that every block should have."""
        return self._servers.cluster_map.copies

    async def look(self) -> None:
        """Find out about every copy."""
        await self._ask(list(self.presence.good), self._progress)
        await self._settle()

    async def _ask(self, block_ids: Sequence[BlockId], progress: Progress) -> None:
        await self.presence.ask(block_ids, progress)
        if self._verify_data:
            await self.presence.verify(block_ids, progress)

    async def _settle(self) -> None:
        """Ask again about all that looks wrong, until no server was lost meanwhile."""
        lost_count = -1
        while lost_count != len(self._servers.unreachable):
            lost_count = len(self._servers.unreachable)
            suspects = await self._forget_dropped(self._suspects())
            await self._ask(suspects, ignore_progress)
            await self._forget_dropped(suspects)

    def _suspects(self) -> list[BlockId]:
        presence, wanted = self.presence, self.wanted
        return [
            block_id
            for block_id, bits in presence.good.items()
            if bits.bit_count() < wanted or block_id in presence.bad
        ]

    async def _forget_dropped(self, block_ids: Sequence[BlockId]) -> list[BlockId]:
        """Those of them that are still named."""
        values = await self._metadata.records(map(keys.block_key, block_ids))
        dropped = {b for b in block_ids if self._is_dropped(b, values.get(keys.block_key(b)))}
        self.presence.forget(dropped)
        return [block_id for block_id in block_ids if block_id not in dropped]

    def _is_dropped(self, block_id: BlockId, value: bytes | None) -> bool:
        """Whether the count says that the last extent went after the census.

        A count that was wrong then already says nothing.
        """
        before = self._census.block_refs.get(block_id)
        if before is None or not before.count:
            return False
        try:
            return value is None or not decode_record(BlockRef, value).count
        except (DfsError, msgspec.MsgspecError, AssertionError, LookupError):
            return False

    # ------------------------------------------------------------ mending

    async def mend(self) -> list[str]:
        """Give blocks with bad or too few copies new ones from a good one; what was done, in
        words."""
        suspects = await self._forget_dropped(self._suspects())
        if not suspects:
            return []
        done, self.not_copied = await copy_blocks(
            self._servers, self.presence, suspects, self.wanted
        )
        await self._ask(suspects, ignore_progress)
        await self._settle()
        return done

    # ------------------------------------------------------------ telling

    async def report_to(self, problems: Problems) -> None:
        """Say what is wrong."""
        missing = [b for b, bits in self.presence.good.items() if not bits]
        files = await self._files_of(missing[:LISTED_MAX]) if missing else {}
        for block_id in missing:
            subject = files.get(block_id) or self._subjects.of_block(block_id)
            problems.add("I1 block presence", subject, self._about_missing(block_id))
        for block_id in self.presence.bad:
            self._report_bad(block_id, problems)
        self._report_degraded(problems)
        for line in self.not_copied:
            problems.add("repair", "copies", line, is_error=False)

    def _about_missing(self, block_id: BlockId) -> str:
        message = f"block {block_id.hex()} has no readable copy"
        count = len(self._servers.unreachable)
        if not count:
            return f"{message}: its bytes are lost"
        return f"{message} on the servers that answer; {count} cannot be asked and may have one"

    def _report_bad(self, block_id: BlockId, problems: Problems) -> None:
        left = self.presence.good[block_id].bit_count()
        for server_id in self.presence.bad_at(block_id):
            message = (
                f"block {block_id.hex()}: the copy on {self._servers.name_of(server_id)} "
                f"has wrong bytes; good copies: {left}"
            )
            problems.add("I2 verified bytes", self._subjects.of_block(block_id), message)

    def _report_degraded(self, problems: Problems) -> None:
        few = [b for b, bits in self.presence.good.items() if 0 < bits.bit_count() < self.wanted]
        if not few:
            return
        message = f"{len(few)} blocks have fewer than {self.wanted} readable copies"
        if self._servers.unreachable:
            message += " on the servers that answer"
        example = self._subjects.of_block(few[0])
        problems.add("I1 block copies", f"{example}, for example", message, is_error=False)

    async def _files_of(self, block_ids: Sequence[BlockId]) -> dict[BlockId, str]:
        """Paths of all files that these blocks belong to; reads the extents once more.

        Empty if they cannot be read to their end: one file of each block is known anyway.
        """
        files: dict[BlockId, dict[str, None]] = {block_id: {} for block_id in block_ids}
        try:
            async for rows, _ in self._metadata.pages():
                for key, value in rows:
                    if key[2:3] == keys.EXTENT:
                        self._note_file(files, key, value)
        except ExportLost:
            return {}
        return {block_id: _listed(list(paths)) for block_id, paths in files.items() if paths}

    def _note_file(self, files: dict[BlockId, dict[str, None]], key: bytes, value: bytes) -> None:
        try:
            extent = decode_record(Extent, value)
        except (DfsError, msgspec.MsgspecError, AssertionError, LookupError):
            return
        paths = files.get(extent.block_id)
        if paths is not None:
            paths[self._subjects.of_inode(keys.ino_of(key))] = None


def _listed(paths: list[str]) -> str:
    text = ", ".join(paths[:FILES_NAMED_MAX])
    rest = len(paths) - FILES_NAMED_MAX
    return text if rest <= 0 else f"{text} and {rest} more files"
