"""The cluster map: what chunk servers report becomes a map, which is durable before it is told.

`core/membership.py` decides. A change may be decided while an older one is being written; then the
next write carries all that gathered, and nobody sees the map in between.
"""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING, Final

import trio

from dfs.core.membership import MapChange, Membership
from dfs.core.messages import ReportServer, ServerStatus
from dfs.core.namespace.keys import MAP_KEY, server_key
from dfs.core.namespace.records import MapRecord, ServerRecord
from dfs.core.space import total_space
from dfs.errors import FsError, WrongCluster
from dfs.limits import SERVER_REPORT_S
from dfs.meta.committer import SETBACKS
from dfs.types import ServerState, SpaceUsage

if TYPE_CHECKING:
    from dfs.core.namespace.view import Overlay
    from dfs.meta.committer import Committer
    from dfs.meta.volume import Volume
    from dfs.types import ClusterId, ClusterMap, ServerId

log = logging.getLogger(__name__)

RETRY_S: Final = 1.0
TEXT_CHARACTERS_MAX: Final = 255
"""Of a server's id, address and zone."""


class Cluster:
    """Owns the cluster map. `publish` and `watch` carry it."""

    cluster_map: ClusterMap
    """The newest durable map: the only one that anybody is told of."""

    def __init__(self, committer: Committer, volume: Volume) -> None:
        self._committer = committer
        self._cluster_id: ClusterId = volume.config.cluster_id
        self._membership = Membership(
            volume.servers,
            volume.map_epoch,
            copies=volume.config.copies,
            min_copies=volume.config.min_copies,
            now_s=trio.current_time(),
        )
        self._reports: dict[ServerId, ReportServer] = {}
        self._unwritten: dict[ServerId, ServerRecord] = {}
        self._is_changed = trio.Event()
        self._note(self._membership.change_at_start)

    def report(self, request: ReportServer) -> None:
        """A chunk server is alive. Raises WrongCluster; FsError(EINVAL) for nonsense."""
        if request.cluster_id not in ("", self._cluster_id):
            raise WrongCluster(
                f"chunk server {request.server_id} at {request.address} belongs to cluster "
                f"{request.cluster_id}, this is {self._cluster_id}"
            )
        _check(request)
        self._reports[request.server_id] = request
        record = ServerRecord(
            server_id=request.server_id,
            address=request.address,
            zone=request.zone,
            capacity_bytes=request.space.capacity_bytes,
        )
        self._note(self._membership.report(record, trio.current_time()))

    def _note(self, change: MapChange | None) -> None:
        if change is None:
            return
        self._unwritten.update({record.server_id: record for record in change.servers})
        self._is_changed.set()

    # ------------------------------------------------------------ in the background

    async def publish_once(self) -> None:
        """Make what gathered durable, then tell it. Raises what the commit fails with."""
        wanted, records = self._membership.cluster_map, self._unwritten
        self._unwritten = {}
        self._is_changed = trio.Event()

        def write(overlay: Overlay) -> None:
            overlay.put(MAP_KEY, MapRecord(wanted.map_epoch))
            for server_id, record in records.items():
                overlay.put(server_key(server_id), record)

        try:
            await self._committer.commit(write)
        except SETBACKS:
            self._unwritten = records | self._unwritten
            self._is_changed.set()
            raise
        self.cluster_map = wanted
        states = ", ".join(f"{s.address} {s.state.value}" for s in wanted.servers)
        log.info("cluster map %d: %s", wanted.map_epoch, states or "no chunk servers yet")

    async def publish(self) -> None:
        """Publish changes as they come, until cancelled."""
        while True:
            await self._is_changed.wait()
            try:
                await self.publish_once()
            except SETBACKS as error:
                log.warning("the new cluster map waits: %s", error)
                await trio.sleep(RETRY_S)

    async def watch(self) -> None:
        """Notice silent servers, until cancelled.

        After a pause of this server itself they get time to report before they are judged.
        """
        while True:
            due_s = trio.current_time() + SERVER_REPORT_S
            await trio.sleep_until(due_s)
            if trio.current_time() - due_s > SERVER_REPORT_S:
                await trio.sleep(2 * SERVER_REPORT_S)
            self._note(self._membership.tick(trio.current_time()))

    # ------------------------------------------------------------ for others

    def space(self) -> SpaceUsage:
        """Raw: all servers that are not out, as last reported; a shared disk counts once."""
        return total_space(
            self._reports[server.server_id].space
            for server in self.cluster_map.servers
            if server.state is not ServerState.OUT and server.server_id in self._reports
        )

    def status(self) -> tuple[ServerStatus, ...]:
        """Every server of the map, by id."""
        now_s = trio.current_time()
        found = []
        for server in self.cluster_map.servers:
            report = self._reports.get(server.server_id)
            found.append(
                ServerStatus(
                    server=server,
                    space=report.space if report else None,
                    block_count=report.block_count if report else 0,
                    silent_s=self._membership.silent_s(server.server_id, now_s),
                )
            )
        return tuple(found)


def _check(request: ReportServer) -> None:
    names = (request.server_id, request.address, request.zone)
    space = request.space
    is_sound = all(0 < len(name) <= TEXT_CHARACTERS_MAX for name in names)
    if not is_sound or min(space.capacity_bytes, space.used_bytes, space.free_bytes) < 0:
        raise FsError(errno.EINVAL, f"a report that makes no sense: {request!r:.200}")
