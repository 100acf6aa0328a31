"""Ownership of a shard: who may commit to it (I7).

The fence is a record (shard_epoch, batch_number). Taking ownership raises the epoch; every batch
checks (e, n) and writes (e, n + 1). So a server that lost the shard fails at its next batch, and
after an unknown outcome the number tells whether the batch landed:

| after Unknown, the fence says | then |
|---|---|
| another epoch | someone else took the shard: Fenced |
| (e, n) or (e, n + 1) | raise it to e + 1; the number that was raised tells whether it landed |

Raising it shuts out the batch, should it still be on its way.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio

from dfs.core.namespace.keys import FENCE_KEY
from dfs.core.namespace.records import Fence, decode_record, encode_record
from dfs.engine.api import Conflict, Retry, Unknown
from dfs.errors import Fenced, NoSpace
from dfs.types import ShardEpoch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dfs.engine.api import Engine
    from dfs.environment import Environment

log = logging.getLogger(__name__)

RETRY_PAUSE_S: Final = 0.01
RETRY_PAUSE_S_MAX: Final = 1.0


class ShardOwner:
    """This server's hold on shard 0. All its commits go through `commit`, one at a time."""

    def __init__(self, engine: Engine, environment: Environment) -> None:
        self._engine = engine
        self._run_blocking = environment.run_blocking
        self._fault_point = environment.fault_point
        self._fence: Fence | None = None

    @property
    def shard_epoch(self) -> ShardEpoch:
        """Grows with every take-over. 0 before the first."""
        return ShardEpoch(self._fence.shard_epoch if self._fence else 0)

    async def take(self) -> None:
        """Become the owner: from now on whoever owned the shard before can commit nothing (I7)."""
        while True:
            current = await self._read()
            try:
                self._fence = await self._raise(current)
                return
            except (Conflict, Unknown) as error:
                log.info("taking the shard again: %s", error)

    async def commit(self, puts: Mapping[bytes, bytes], deletes: Iterable[bytes]) -> None:
        """Write a batch, durable when this returns.

        Raises Fenced when someone else owns the shard, NoSpace and TooLarge when nothing was
        written. An outcome that is unknown at first is found out here.
        """
        assert FENCE_KEY not in puts
        deletes = tuple(deletes)
        while True:
            try:
                await self._write(puts, deletes)
                await self._fault_point("the batch is durable, nobody knows")
                return
            except Unknown as error:
                log.warning("a commit's outcome is unknown: %s", error)
                if await self._has_landed():
                    return

    async def _write(self, puts: Mapping[bytes, bytes], deletes: tuple[bytes, ...]) -> None:
        fence = self._fence
        assert fence is not None, "take the shard first"
        after = Fence(fence.shard_epoch, fence.batch_number + 1)
        try:
            await self._commit(fence, {**puts, FENCE_KEY: encode_record(after)}, deletes)
        except Conflict:
            raise Fenced(f"shard 0 is owned by another server: {await self._read()}") from None
        self._fence = after

    async def _has_landed(self) -> bool:
        """Whether the batch of unknown outcome landed; afterwards it cannot any more."""
        assert self._fence is not None
        while True:
            current = await self._read()
            if current is None or current.shard_epoch != self._fence.shard_epoch:
                raise Fenced(f"shard 0 was taken by another server: {current}")
            landed_count = current.batch_number - self._fence.batch_number
            assert landed_count in (0, 1)
            try:
                self._fence = await self._raise(current)
                return landed_count == 1
            except Conflict:
                log.info("the batch landed, or another server came, while we were looking")
            except Unknown as error:
                log.warning("raising the shard's epoch: %s", error)
                if await self._is_raised(current):
                    return landed_count == 1
            except NoSpace as error:
                # The batch may have landed: until that is known nothing may be said of it.
                log.warning("raising the shard's epoch: %s", error)
                await trio.sleep(RETRY_PAUSE_S_MAX)

    async def _is_raised(self, before: Fence) -> bool:
        """Whether the fence is what our raise of unknown outcome wrote; it is ours then."""
        current = await self._read()
        wanted = Fence(before.shard_epoch + 1, before.batch_number)
        if current != wanted:
            return False
        # Another server may have written the very same. Only who raises it once more knows.
        try:
            self._fence = await self._raise(current)
        except (Conflict, Unknown, NoSpace):
            raise Fenced(f"shard 0 may be owned by another server: {current}") from None
        return True

    async def _read(self) -> Fence | None:
        [value] = await self._run_blocking(self._engine.get, [FENCE_KEY])
        return decode_record(Fence, value) if value is not None else None

    async def _raise(self, current: Fence | None) -> Fence:
        raised = Fence(
            current.shard_epoch + 1 if current else 1, current.batch_number if current else 0
        )
        await self._commit(current, {FENCE_KEY: encode_record(raised)}, ())
        return raised

    async def _commit(
        self, fence: Fence | None, puts: Mapping[bytes, bytes], deletes: tuple[bytes, ...]
    ) -> None:
        """One engine commit, tried again while the engine says that nothing was written."""
        checks = {FENCE_KEY: encode_record(fence) if fence is not None else None}
        pause_s = RETRY_PAUSE_S
        while True:
            try:
                # Once begun it is waited for, also when the server is being stopped (I3).
                with trio.CancelScope(shield=True):
                    await self._run_blocking(self._engine.commit, checks, puts, deletes)
                return
            except Retry as error:
                log.info("the engine asks to try again: %s", error)
                await trio.sleep(pause_s)
                pause_s = min(2 * pause_s, RETRY_PAUSE_S_MAX)
