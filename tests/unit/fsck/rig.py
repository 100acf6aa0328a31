"""A small volume on a whole cluster in one process, to be damaged and checked.

The metadata server is the real one; damage is written under it, into its engine, while it is down.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from dfs.client.files import Files
from dfs.core.namespace.keys import EXTENT, ino_of, table_of
from dfs.core.namespace.records import Extent, Record, decode_record, encode_record
from dfs.engine.memory_engine import MemoryEngine
from dfs.fsck.check import check_cluster
from tests.unit.client.rig import BLOCK, META, ROOT_USER, ChunkRig, Rig, cluster, pattern

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from dfs.environment import Environment
    from dfs.fsck.report import Problem, Report
    from dfs.types import BlockId, InodeId

LARGE = "/dir/large"
LARGE_BLOCKS = 3
INODES = ("/", "/dir", LARGE, "/dir/small", "/dir/sub", "/link")
BROKEN = "reports do not get through"


class Scene:
    """The volume: what is where, and what is written under the servers' feet."""

    def __init__(self, rig: Rig, inos: Mapping[str, InodeId]) -> None:
        self.rig = rig
        self.ino = inos

    @property
    def environment(self) -> Environment:
        return self.rig.client_environment

    async def check(self, **options: Any) -> Report:
        """What fsck says, with the totals that must always fit."""
        report = await check_cluster(self.environment, [META], **options)
        errors = [problem for problem in report.problems if problem.is_error]
        assert report.error_count == len(errors)
        assert report.warning_count == len(report.problems) - len(errors)
        assert report.is_clean is not bool(errors)
        return report

    # ------------------------------------------------------------ records

    def rows(self) -> dict[bytes, bytes]:
        """Everything that the engine holds."""
        return dict(self.rig.storage.scan(b"\0", b"\xff" * 8, 1 << 20, is_reverse=False))

    def record(self, key: bytes, record_type: type[Any]) -> Any:
        return decode_record(record_type, self.rows()[key])

    def has(self, key: bytes) -> bool:
        return key in self.rows()

    async def damage(self, changes: Mapping[bytes, Record | bytes | None]) -> None:
        """Write records (bytes as they are, None deletes) while the metadata server is down."""
        self.rig.kill_meta()
        puts = {
            key: encode_record(value) if isinstance(value, Record) else value
            for key, value in changes.items()
            if value is not None
        }
        deletes = [key for key, value in changes.items() if value is None]
        MemoryEngine(self.rig.storage).commit({}, puts, deletes)
        await self.restart_meta()

    async def restart_meta(self) -> None:
        """Start the metadata server that was killed, once it is gone."""
        while META in self.rig.network.listeners:
            await trio.lowlevel.checkpoint()
        await self.rig.start_meta()

    # ------------------------------------------------------------ blocks

    def extents(self, path: str) -> list[Extent]:
        return [
            decode_record(Extent, value)
            for key, value in self.rows().items()
            if table_of(key) == EXTENT and ino_of(key) == self.ino[path]
        ]

    def blocks(self, path: str = LARGE) -> list[BlockId]:
        return [extent.block_id for extent in self.extents(path) if extent.block_id]

    def holders(self, block_id: BlockId) -> list[ChunkRig]:
        return [chunk for chunk in self.rig.chunks if block_id in chunk.store._blocks]

    def others(self, block_id: BlockId) -> list[ChunkRig]:
        holders = self.holders(block_id)
        return [chunk for chunk in self.rig.chunks if chunk not in holders]


@asynccontextmanager
async def volume(**settings: Any) -> AsyncIterator[Scene]:
    """A volume with a directory, files of blocks and of inline bytes, a second name and a
    symlink."""
    async with cluster(**settings) as rig:
        async with rig.client() as client:
            files = Files(client, ROOT_USER)
            await files.mkdir("/dir")
            await files.mkdir("/dir/sub")
            await files.write_bytes(LARGE, pattern(LARGE_BLOCKS * BLOCK))
            await files.write_bytes("/dir/small", b"inline")
            await files.symlink("dir/small", "/link")
            await client.sync()
            inos = {path: (await files.stat(path, follow=False)).ino for path in INODES}
        yield Scene(rig, inos)


def said(report: Report) -> list[str]:
    """Problems as `dfs fsck` prints them."""
    return [line_of(problem) for problem in report.problems]


def line_of(problem: Problem) -> str:
    kind = "error" if problem.is_error else "warning"
    return f"{kind}: {problem.subject}: {problem.message} ({problem.check})"
