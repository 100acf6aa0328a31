"""The metadata server: wiring and lifetime. The only file of this package that starts tasks.

| task | carries |
|---|---|
| committer | batches, one after the other |
| serve | links, and a task per request that waits |
| reaper (several) | orphans |
| collector | the garbage queue |
| sessions, cluster (two), exports | what falls silent, what has to be published, what rests |

All tasks end together. When the shard is lost (Fenced, I7), or the engine breaks, nothing can go
on: everything is cancelled and the reason is raised. Cancelling stops accepting first and lets the
batch in flight be finished.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

import trio

from dfs.core.messages import MetaRequest
from dfs.core.sessions import Holds, Lifetimes
from dfs.engine.api import EngineDamaged
from dfs.errors import DfsError, Disconnected, Fenced
from dfs.meta.cluster import Cluster
from dfs.meta.collector import Collector
from dfs.meta.committer import Committer
from dfs.meta.deletions import Deletions
from dfs.meta.exports import Exports
from dfs.meta.handlers import Handlers
from dfs.meta.reaper import WORKERS, Reaper
from dfs.meta.recalls import Recalls
from dfs.meta.record_store import RecordStore
from dfs.meta.sessions import Sessions
from dfs.meta.shards import ShardOwner
from dfs.meta.streams import Applier
from dfs.meta.volume import load_volume, make_volume
from dfs.rpc.server import serve

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dfs.config import MetaConfig
    from dfs.core.messages import MetaReply
    from dfs.engine.api import Engine
    from dfs.environment import Environment, Listener
    from dfs.meta.sessions import LinkLike
    from dfs.meta.volume import Volume

log = logging.getLogger(__name__)

SESSION_TICK_S = 1.0


async def run_meta_server(
    config: MetaConfig,
    environment: Environment,
    *,
    engine: Engine,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled. Starts with the address that clients reach it at.

    The first server of an empty engine makes the volume. Raises FormatTooNew, Fenced when another
    server took the shard (I7), NoSpace if it cannot even start, EngineDamaged; OSError or UserError
    for an address that cannot be listened on. The engine stays the caller's to close.
    """
    listener = await environment.network.listen(config.listen)
    try:
        server = await start_meta_server(config, environment, engine)
    except BaseException:
        with trio.CancelScope(shield=True):
            await listener.aclose()
        raise
    await server.run(listener, task_status=task_status)


async def start_meta_server(
    config: MetaConfig, environment: Environment, engine: Engine
) -> MetaServer:
    """A server that owns the shard and knows the volume, not yet running."""
    await make_volume(config, environment, engine)
    owner = ShardOwner(engine, environment)
    await owner.take()
    volume = await load_volume(environment, engine)
    return MetaServer(config, environment, engine, owner, volume)


class MetaServer:
    """All parts of one metadata server. `run` carries them."""

    def __init__(
        self,
        config: MetaConfig,
        environment: Environment,
        engine: Engine,
        owner: ShardOwner,
        volume: Volume,
    ) -> None:
        self._environment = environment
        self._nursery: trio.Nursery | None = None
        self._failure: DfsError | None = None
        self._is_over = False
        now_s = trio.current_time()
        tick_s = min(SESSION_TICK_S, config.session_ttl_s / 4)
        lifetimes = Lifetimes(now_s, ttl_s=config.session_ttl_s, tick_s=tick_s)
        holds = Holds()
        store = RecordStore(engine, environment, config.cached_records_max)
        self.committer = Committer(store, owner, engine.limits)
        self._reaper = Reaper(self.committer, holds, lifetimes, environment, volume.orphans)
        deletions = Deletions(owner.shard_epoch)
        strangers = [one.session_id for one in volume.sessions if one.may_remember]
        # A little later than a session that says nothing at all expires.
        recalls = Recalls(strangers, ticks_max=math.ceil(config.session_ttl_s / tick_s) + 2)
        applier = Applier(self.committer, holds, self._reaper, deletions, recalls, self._spawn)
        self._sessions = Sessions(store, applier, lifetimes, volume.sessions)
        self._cluster = Cluster(self.committer, volume)
        self._collector = Collector(
            environment, engine, self.committer, self._cluster, deletions, config.garbage_grace_s
        )
        self._exports = Exports(engine, environment)
        self._handlers = Handlers(
            environment,
            engine,
            settings=volume.settings,
            session_ttl_s=config.session_ttl_s,
            store=store,
            committer=self.committer,
            sessions=self._sessions,
            holds=holds,
            reaper=self._reaper,
            cluster=self._cluster,
            deletions=deletions,
            exports=self._exports,
            recalls=recalls,
        )
        log.info(
            "cluster %s, shard epoch %d, %d sessions, %d orphans",
            volume.config.cluster_id,
            owner.shard_epoch,
            len(volume.sessions),
            len(volume.orphans),
        )

    async def run(
        self,
        listener: Listener | None,
        *,
        task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve what the listener accepts until cancelled. Without a listener, only `handle`."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                await self._start_tasks(nursery)
                if listener is None:
                    task_status.started("")
                    await trio.sleep_forever()
                else:
                    await serve(
                        self._environment,
                        listener,
                        MetaRequest,
                        self.handle,
                        on_end=self._sessions.link_ended,
                        task_status=task_status,
                    )
            finally:
                self._is_over = True
        if self._failure is not None:
            raise self._failure

    async def _start_tasks(self, nursery: trio.Nursery) -> None:
        nursery.start_soon(self._guard, self.committer.run)
        # Nobody is told of a map before it is durable.
        await self._guard(self._cluster.publish_once)
        for _ in range(WORKERS):
            nursery.start_soon(self._guard, self._reaper.work)
        for work in (
            self._cluster.publish,
            self._cluster.watch,
            self._sessions.watch,
            self._exports.watch,
            self._collector.run,
        ):
            nursery.start_soon(self._guard, work)

    async def handle(self, request: MetaRequest, payload: object, link: LinkLike) -> MetaReply:
        """The reply to one request; see `Handlers`."""
        if self._is_over:
            raise Disconnected("this metadata server stops")
        try:
            return await self._handlers.handle(request, payload, link)
        except EngineDamaged as error:
            self._fail(error)
            raise Disconnected(f"this metadata server stops: {error}") from error

    def stop(self) -> None:
        """End `run`, as cancelling it would."""
        assert self._nursery is not None
        self._nursery.cancel_scope.cancel()

    def _spawn(self, work: Callable[[], Awaitable[None]]) -> None:
        assert self._nursery is not None, "nothing is applied before the server runs"
        self._nursery.start_soon(self._guard, work)

    async def _guard(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except DfsError as error:
            self._fail(error)

    def _fail(self, error: DfsError) -> None:
        """Stop everything; `run` raises the first such reason."""
        if self._failure is None:
            self._failure = error
            level = logging.WARNING if isinstance(error, Fenced) else logging.ERROR
            log.log(level, "the metadata server stops: %s", error)
        self.stop()
