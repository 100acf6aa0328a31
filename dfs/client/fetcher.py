"""Brings blocks to the client: picks a copy, verifies it, falls over to another (I2).

Frames of a block are asked for in runs; runs that several readers want at once are fetched once. A
copy that was found bad or missing is written anew from a good one, in the background.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio

from dfs.client.failures import copy_of
from dfs.client.race import Race
from dfs.core.blocks import decode_frames, frames_touching
from dfs.core.messages import BlockReply, GetBlock, PutBlock
from dfs.core.placement import servers_for
from dfs.errors import (
    BlockNotFound,
    CorruptBlock,
    DfsError,
    Disconnected,
    RemoteProtocolError,
    RetryableError,
)
from dfs.limits import FRAME_BYTES

if TYPE_CHECKING:
    from dfs.client.block_cache import BlockCache
    from dfs.client.chunk_links import ChunkLinks
    from dfs.client.session import MetaSession
    from dfs.config import ClientConfig
    from dfs.core.messages import BlockHeader
    from dfs.environment import Environment
    from dfs.types import BlockId, ChunkServer, ServerId

logger = logging.getLogger(__name__)

FETCHES_IN_FLIGHT_MAX: Final = 12
WRITE_BACKS_IN_FLIGHT_MAX: Final = 2
DECODED_HERE_BYTES_MAX: Final = FRAME_BYTES
"""Smaller replies are verified at once: handing them to a thread takes longer."""


class _Fetch:
    """A run of frames under way, for all who want them."""

    def __init__(self, block_id: BlockId, first_frame: int, end_frame: int) -> None:
        assert first_frame < end_frame
        self.block_id = block_id
        self.first_frame = first_frame
        self.end_frame = end_frame
        self.frames: list[bytes] = []
        self.error: DfsError | None = None
        self.is_over = trio.Event()

    @property
    def keys(self) -> list[tuple[BlockId, int]]:
        return [(self.block_id, index) for index in range(self.first_frame, self.end_frame)]


class Fetcher:
    """Reads blocks. `run` carries it."""

    def __init__(
        self,
        environment: Environment,
        session: MetaSession,
        links: ChunkLinks,
        cache: BlockCache,
        config: ClientConfig,
    ) -> None:
        self._environment = environment
        self._session = session
        self._links = links
        self._cache = cache
        self._config = config
        self._under_way: dict[tuple[BlockId, int], _Fetch] = {}
        self._slots = trio.CapacityLimiter(FETCHES_IN_FLIGHT_MAX)
        self._write_back_slots = trio.CapacityLimiter(WRITE_BACKS_IN_FLIGHT_MAX)
        self._written_back: dict[tuple[BlockId, ServerId], None] = {}
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Carry fetches until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    # ------------------------------------------------------------ reading

    async def read(self, block_id: BlockId, start: int, end: int) -> bytes:
        """Plain bytes [start, end) of a block, verified (I2).

        Raises BlockNotFound when every server says that it does not have it, CorruptBlock when the
        copies there are are bad, Disconnected when servers that may have it did not answer; each
        names the block and the servers. All servers are asked once: patience is the caller's.
        """
        first_frame, end_frame = frames_touching(start, end)
        frames = await self._frames(block_id, first_frame, end_frame)
        start -= first_frame * FRAME_BYTES
        end -= first_frame * FRAME_BYTES
        plain = frames[0] if len(frames) == 1 else b"".join(frames)
        if len(plain) < end:
            raise CorruptBlock(f"block {block_id.hex()[:16]} is shorter than its extent")
        return plain[start:end]

    def prefetch(self, block_id: BlockId, start: int, end: int) -> None:
        """Have [start, end) of a block brought into the cache. Failures are for later reads."""
        first_frame, end_frame = frames_touching(start, end)
        missing = [
            index
            for index in range(first_frame, end_frame)
            if (block_id, index) not in self._cache and (block_id, index) not in self._under_way
        ]
        for first, last in _runs(missing):
            self._begin(block_id, first, last)

    async def _frames(self, block_id: BlockId, first_frame: int, end_frame: int) -> list[bytes]:
        found: dict[int, bytes] = {}
        fetches: dict[_Fetch, None] = {}
        missing = []
        for index in range(first_frame, end_frame):
            frame = self._cache.get((block_id, index))
            fetch = self._under_way.get((block_id, index))
            if frame is not None:
                found[index] = frame
            elif fetch is not None:
                fetches[fetch] = None
            else:
                missing.append(index)
        for first, last in _runs(missing):
            fetches[self._begin(block_id, first, last)] = None
        for fetch in fetches:
            await fetch.is_over.wait()
            if fetch.error is not None:
                raise copy_of(fetch.error)
            found.update(enumerate(fetch.frames, fetch.first_frame))
        return [found[index] for index in range(first_frame, end_frame) if index in found]

    def _begin(self, block_id: BlockId, first_frame: int, end_frame: int) -> _Fetch:
        fetch = _Fetch(block_id, first_frame, end_frame)
        for key in fetch.keys:
            assert key not in self._under_way
            self._under_way[key] = fetch
        assert self._nursery is not None
        self._nursery.start_soon(self._carry_out, fetch)
        return fetch

    async def _carry_out(self, fetch: _Fetch) -> None:
        try:
            async with self._slots:
                plain = await self._fetch(fetch)
            starts = range(0, len(plain), FRAME_BYTES)
            fetch.frames = [plain[start : start + FRAME_BYTES] for start in starts]
            for index, frame in enumerate(fetch.frames, fetch.first_frame):
                self._cache.put((fetch.block_id, index), frame)
        except DfsError as error:
            fetch.error = error
        finally:
            for key in fetch.keys:
                del self._under_way[key]
            fetch.is_over.set()

    # ------------------------------------------------------------ copies

    async def _fetch(self, fetch: _Fetch) -> bytes:
        race = await self._ask_copies(fetch)
        if race.successes:
            server, plain = race.successes[0]
            self._write_back_later(fetch.block_id, race, server)
            return plain
        problem = (
            f"block {fetch.block_id.hex()[:16]} cannot be read "
            f"({race.causes() or 'no chunk server is known'})"
        )
        errors = [error for _, error in race.failures]
        if not errors or any(_may_heal(error) for error in errors):
            raise Disconnected(problem)
        if all(isinstance(error, BlockNotFound) for error in errors):
            raise BlockNotFound(problem)
        raise CorruptBlock(problem)

    async def _ask_copies(self, fetch: _Fetch) -> Race[bytes]:
        """One round over the servers, likeliest first, until one gives verified bytes."""
        cluster_map = self._session.cluster_map
        servers = servers_for(fetch.block_id, cluster_map)
        turn = int.from_bytes(fetch.block_id[-4:], "big") + self._session.session_id

        async def get(server: ChunkServer) -> bytes:
            return await self._get(server, fetch)

        ranked = self._links.for_reading(servers, cluster_map.copies, turn)
        race = Race(ranked, get, wanted=1, hedge_s=self._config.hedge_s)
        await race.run()
        for server in race.slow:
            self._links.note_slow(server)
        return race

    async def _get(self, server: ChunkServer, fetch: _Fetch) -> bytes:
        request = GetBlock(
            block_id=fetch.block_id, first_frame=fetch.first_frame, end_frame=fetch.end_frame
        )
        header, stored = await self._get_stored(server, request)
        end_frame = min(fetch.end_frame, len(header.frames))
        if fetch.first_frame >= end_frame:
            raise CorruptBlock(f"block {fetch.block_id.hex()[:16]} has no such frames")
        return await self._decode(header, stored, fetch.first_frame, end_frame)

    async def _get_stored(
        self, server: ChunkServer, request: GetBlock
    ) -> tuple[BlockHeader, bytes | memoryview]:
        reply, stored = await self._links.call(server, request)
        if not isinstance(reply, BlockReply):
            raise RemoteProtocolError(f"{server.address} answered GetBlock with {reply!r:.80}")
        if reply.header.block_id != request.block_id:
            raise CorruptBlock(f"{server.address} answered with another block")
        return reply.header, stored

    async def _decode(
        self, header: BlockHeader, stored: bytes | memoryview, first_frame: int, end_frame: int
    ) -> bytes:
        if len(stored) <= DECODED_HERE_BYTES_MAX and end_frame - first_frame == 1:
            return decode_frames(header, stored, first_frame, end_frame)
        return await self._environment.run_blocking(
            decode_frames, header, stored, first_frame, end_frame
        )

    # ------------------------------------------------------------ writing back

    def _write_back_later(self, block_id: BlockId, race: Race[bytes], good: ChunkServer) -> None:
        """Replace the bad and missing copies that were met on the way to a good one."""
        cluster_map = self._session.cluster_map
        owners = servers_for(block_id, cluster_map)[: cluster_map.copies]
        for server, error in race.failures:
            is_missing = isinstance(error, BlockNotFound) and server in owners
            key = (block_id, server.server_id)
            if key in self._written_back or not (is_missing or isinstance(error, CorruptBlock)):
                continue
            logger.warning(
                "block %s: %s has no good copy (%s); writing it back from %s",
                block_id.hex()[:16],
                server.address,
                error,
                good.address,
            )
            self._written_back[key] = None
            assert self._nursery is not None
            self._nursery.start_soon(self._write_back, block_id, good, server)

    async def _write_back(self, block_id: BlockId, good: ChunkServer, bad: ChunkServer) -> None:
        try:
            async with self._write_back_slots:
                header, stored = await self._get_stored(good, GetBlock(block_id=block_id))
                await self._decode(header, stored, 0, len(header.frames))
                await self._links.call(bad, PutBlock(header=header), stored)
        except DfsError as error:
            logger.warning("block %s was not written back: %s", block_id.hex()[:16], error)
        finally:
            del self._written_back[(block_id, bad.server_id)]


def _may_heal(error: DfsError) -> bool:
    return isinstance(error, RetryableError | RemoteProtocolError)


def _runs(indexes: list[int]) -> list[tuple[int, int]]:
    """Sorted indexes as half-open runs."""
    runs: list[tuple[int, int]] = []
    for index in indexes:
        if runs and runs[-1][1] == index:
            runs[-1] = (runs[-1][0], index + 1)
        else:
            runs.append((index, index + 1))
    return runs
