"""Which chunk servers are up, down or out, from their reports and the operator's word.

Times are seconds of any clock that only grows, given by the caller. A change of the map comes back
as a `MapChange`: it must be durable before anybody is told of it, so that no map epoch ever names
two different maps.

| state | becomes | when |
|---|---|---|
| unknown | up | its first report |
| up | down | silent for longer than SERVER_DOWN_S |
| down | up | it reports |
| any | out | the operator says so |
| out | up, or down if silent | the operator takes it back |
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from dfs.core.namespace.records import MapRecord, ServerRecord
from dfs.limits import COPIES_MAX, GIB, SERVER_DOWN_S
from dfs.types import ChunkServer, ClusterMap, MapEpoch, ServerId, ServerState

if TYPE_CHECKING:
    from collections.abc import Iterable

CAPACITY_CHANGE_SHARE = 10
"""A capacity is taken over only if it changed by a tenth: every change of weight moves blocks, and
free space that others use too changes all the time."""


class MapChange(msgspec.Struct, frozen=True):
    """What to write in one commit, and the map to hand out once that is durable."""

    cluster_map: ClusterMap
    map_record: MapRecord
    servers: tuple[ServerRecord, ...]
    """Those whose record changed; may be empty."""


class Membership:
    """The metadata service's knowledge of the chunk servers. Owner: whoever leads the service."""

    def __init__(
        self,
        records: Iterable[ServerRecord],
        map_epoch: MapEpoch,
        *,
        copies: int,
        min_copies: int,
        now_s: float,
    ) -> None:
        """Go on after a start, from what is durable. Servers count as heard of just now.

        Who was down is not recorded, so the first map differs from the last one of before: commit
        `change_at_start` before handing it out.
        """
        assert map_epoch >= 0
        assert 1 <= min_copies <= copies <= COPIES_MAX
        self._records = {record.server_id: record for record in records}
        self._heard_s = dict.fromkeys(self._records, now_s)
        self._down: set[ServerId] = set()
        self._now_s = now_s
        self.cluster_map = ClusterMap(map_epoch, (), copies, min_copies)
        self.change_at_start = self._change(())

    def report(self, report: ServerRecord, now_s: float) -> MapChange | None:
        """A server is alive. `is_out` of the report does not count. None: nothing changed."""
        assert report.server_id
        assert report.address
        assert report.capacity_bytes >= 0
        self._go_on(now_s)
        self._heard_s[report.server_id] = now_s
        self._down.discard(report.server_id)
        old = self._records.get(report.server_id)
        return self._take(_merged(old, report))

    def tick(self, now_s: float) -> MapChange | None:
        """Time went by: who has been silent for too long is down. None: nothing changed."""
        self._go_on(now_s)
        self._down = {
            server_id
            for server_id, heard_s in self._heard_s.items()
            if now_s - heard_s > SERVER_DOWN_S
        }
        return self._change(()) if self._is_changed() else None

    def set_out(self, server_id: ServerId, *, is_out: bool) -> MapChange | None:
        """The operator takes a server out of the map, or back in. KeyError: nobody knows it."""
        return self._take(msgspec.structs.replace(self._records[server_id], is_out=is_out))

    def silent_s(self, server_id: ServerId, now_s: float) -> float:
        """Seconds since a server's last report, or since the start. KeyError: nobody knows it."""
        return now_s - self._heard_s[server_id]

    def _go_on(self, now_s: float) -> None:
        assert now_s >= self._now_s, "time only grows"
        self._now_s = now_s

    def _take(self, record: ServerRecord) -> MapChange | None:
        old = self._records.get(record.server_id)
        self._records[record.server_id] = record
        if old != record:
            return self._change((record,))
        return self._change(()) if self._is_changed() else None

    def _is_changed(self) -> bool:
        return self._servers() != self.cluster_map.servers

    def _change(self, records: tuple[ServerRecord, ...]) -> MapChange:
        """The next map. Its epoch grows by exactly one."""
        old = self.cluster_map
        map_epoch = MapEpoch(old.map_epoch + 1)
        self.cluster_map = ClusterMap(map_epoch, self._servers(), old.copies, old.min_copies)
        assert not self._is_changed()
        assert self._down <= self._records.keys() == self._heard_s.keys()
        return MapChange(self.cluster_map, MapRecord(map_epoch), records)

    def _servers(self) -> tuple[ChunkServer, ...]:
        return tuple(
            ChunkServer(
                server_id, record.address, record.zone, _weight(record), self._state(record)
            )
            for server_id, record in sorted(self._records.items())
        )

    def _state(self, record: ServerRecord) -> ServerState:
        if record.is_out:
            return ServerState.OUT
        return ServerState.DOWN if record.server_id in self._down else ServerState.UP


def _weight(record: ServerRecord) -> float:
    """Capacity in GiB, at least 1."""
    return max(1.0, record.capacity_bytes / GIB)


def _merged(old: ServerRecord | None, report: ServerRecord) -> ServerRecord:
    """The record after a report: small changes of capacity, and `is_out`, stay as they were."""
    if old is None:
        return msgspec.structs.replace(report, is_out=False)
    assert old.server_id == report.server_id
    changed_bytes = abs(report.capacity_bytes - old.capacity_bytes)
    is_kept = changed_bytes * CAPACITY_CHANGE_SHARE < old.capacity_bytes
    capacity_bytes = old.capacity_bytes if is_kept else report.capacity_bytes
    return msgspec.structs.replace(report, is_out=old.is_out, capacity_bytes=capacity_bytes)
