"""Stores a block on as many chunk servers as the cluster wants (I1)."""

from __future__ import annotations

import errno
import logging
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from dfs.client.race import Race
from dfs.core.blocks import Buffer, encode_block
from dfs.core.messages import BlockHeader, PutBlock
from dfs.core.placement import servers_for
from dfs.errors import Disconnected, FsError, NoSpace
from dfs.limits import KIB, UPLOADS_IN_FLIGHT_MAX

if TYPE_CHECKING:
    from dfs.client.chunk_links import ChunkLinks
    from dfs.client.session import MetaSession
    from dfs.config import ClientConfig
    from dfs.environment import Environment
    from dfs.types import BlockId, ChunkServer

logger = logging.getLogger(__name__)

PUT_HEDGE_S: Final = 5.0
RETRY_PAUSE_S: Final = 0.5
ENCODED_HERE_BYTES_MAX: Final = 8 * KIB
"""Smaller blocks are encoded at once: handing them to a thread takes longer."""

Encoded = tuple[BlockHeader, list[Buffer]]


class Uploader:
    """Turns plain bytes into stored blocks, a bounded number at a time."""

    def __init__(
        self,
        environment: Environment,
        session: MetaSession,
        links: ChunkLinks,
        config: ClientConfig,
    ) -> None:
        self._environment = environment
        self._session = session
        self._links = links
        self._config = config
        self._slots = trio.CapacityLimiter(UPLOADS_IN_FLIGHT_MAX)
        self._is_degraded = False

    async def store(self, plain: bytes | bytearray) -> BlockId | None:
        """The name of a block with these bytes, once at least `min_copies` are durable (I1); None
        when all bytes are zero: a hole needs no block.

        Raises FsError(ENOSPC) when the servers are full, and Disconnected, naming servers and
        causes, when too few answered for `patience_s`.
        """
        async with self._slots:
            encode = partial(_encode, plain, self._config.compression_level)
            if len(plain) <= ENCODED_HERE_BYTES_MAX:
                encoded = encode()
            else:
                encoded = await self._environment.run_blocking(encode)
            if encoded is None:
                return None
            header, stored = encoded
            await self._put_patiently(header, stored)
            await self._environment.fault_point("a block is stored, nothing names it")
            return header.block_id

    async def _put_patiently(self, header: BlockHeader, stored: list[Buffer]) -> None:
        deadline_s = trio.current_time() + self._config.patience_s
        while True:
            race, needed = await self._put(header, stored)
            if len(race.successes) >= needed:
                return
            self._raise_if_full(header, race, needed, is_last=trio.current_time() >= deadline_s)
            problem = (
                f"block {header.block_id.hex()[:16]} reached {len(race.successes)} of the "
                f"{needed} chunk servers it needs ({race.causes() or 'none is known'})"
            )
            if trio.current_time() >= deadline_s:
                raise Disconnected(problem)
            logger.info("trying on: %s", problem)
            await self._session.refresh_map()
            await self._session.pause(RETRY_PAUSE_S)

    async def _put(self, header: BlockHeader, stored: list[Buffer]) -> tuple[Race[None], int]:
        """One round over the servers, and how many copies make it durable."""
        cluster_map = self._session.cluster_map
        servers = servers_for(header.block_id, cluster_map)
        counted_on = self._links.for_writing(servers, cluster_map.min_copies)

        async def put(server: ChunkServer) -> None:
            await self._links.call(server, PutBlock(header=header), stored)

        race = Race(counted_on, put, wanted=cluster_map.copies, hedge_s=PUT_HEDGE_S)
        await race.run()
        for server in race.slow:
            self._links.note_slow(server)
        if len(race.successes) >= cluster_map.min_copies:
            self._note_degraded(len(race.successes), cluster_map.copies, race)
        return race, cluster_map.min_copies

    def _raise_if_full(
        self, header: BlockHeader, race: Race[None], needed: int, *, is_last: bool
    ) -> None:
        """Give up if the servers that are not full are too few, even when all of them answer."""
        full = [server for server, error in race.failures if isinstance(error, NoSpace)]
        # Not only those that were asked: a round leaves out whom nobody counts on for now.
        hopeful = len(servers_for(header.block_id, self._session.cluster_map)) - len(full)
        if full and (is_last or hopeful < needed):
            raise FsError(
                errno.ENOSPC,
                f"block {header.block_id.hex()[:16]}: no space on "
                + ", ".join(server.address for server in full),
            )

    def _note_degraded(self, stored: int, copies: int, race: Race[None]) -> None:
        """Say once that blocks get fewer copies than wanted, and once that it is over."""
        assert stored > 0
        if stored < copies and not self._is_degraded:
            logger.warning(
                "blocks are stored in %d of %d copies for now: %s",
                stored,
                copies,
                race.causes() or "the other servers do not answer",
            )
        elif stored >= copies and self._is_degraded:
            logger.info("blocks are stored in all %d copies again", copies)
        self._is_degraded = stored < copies


def _encode(plain: bytes | bytearray, level: int) -> Encoded | None:
    if is_zero(plain):
        return None
    return encode_block(plain, level=level)


def is_zero(plain: bytes | bytearray) -> bool:
    """All bytes are zero. Nearly free unless they are."""
    if plain[0] or plain[-1] or plain[len(plain) // 2]:
        return False
    return plain.count(0) == len(plain)
