"""Links to chunk servers, made when needed, and which servers had better be left alone for now.

A server that broke a link, stayed silent or is full is avoided for some seconds: it is asked last,
and writers do not count on it; one that was only slow is asked last. That is a hint for order and
speed, never for correctness.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from dfs.core.messages import ChunkReply, ChunkRequest
from dfs.errors import Disconnected, NoSpace, Overloaded, RemoteProtocolError
from dfs.limits import CALL_TIMEOUT_S
from dfs.rpc.call_counts import CallCounts
from dfs.rpc.client import RpcClient
from dfs.types import ChunkServer, ServerId, ServerState

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Sequence

    from dfs.core.packets import Payload
    from dfs.environment import Environment

AVOID_S: Final = 5.0
AVOID_S_MAX: Final = 60.0


@dataclass(eq=False, slots=True)
class _ChunkLink:
    address: str
    rpc: RpcClient[ChunkReply]
    scope: trio.CancelScope
    is_ready: trio.Event


class _Doubt(NamedTuple):
    """Why a server is asked last, and how long."""

    until_s: float
    length_s: float
    has_failed: bool
    """False: it was only slow."""


class ChunkLinks:
    """Calls chunk servers. `run` carries the links."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._links: dict[ServerId, _ChunkLink] = {}
        self._doubts: dict[ServerId, _Doubt] = {}
        self._nursery: trio.Nursery | None = None
        self._counts_before = CallCounts()
        """Of links that are no more."""

    @property
    def call_counts(self) -> CallCounts:
        """Of all chunk servers together, as of now."""
        counts = CallCounts()
        counts.add(self._counts_before)
        for link in self._links.values():
            counts.add(link.rpc.call_counts)
        return counts

    @property
    def calls_sent(self) -> Counter[str]:
        """Requests so far to all chunk servers, by the name of their class."""
        return self.call_counts.sent

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Carry the links until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    async def call(
        self,
        server: ChunkServer,
        request: ChunkRequest,
        payload: Payload = b"",
        *,
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> tuple[ChunkReply, bytes | memoryview]:
        """The reply and its payload. Raises what RpcClient.call does."""
        link = self._link_to(server)
        if not link.is_ready.is_set():
            await link.is_ready.wait()
        try:
            answer = await link.rpc.call(request, payload, timeout_s=timeout_s)
        except (Disconnected, RemoteProtocolError, NoSpace, Overloaded):
            self.avoid(server)
            raise
        self._doubts.pop(server.server_id, None)
        return answer

    def _link_to(self, server: ChunkServer) -> _ChunkLink:
        link = self._links.get(server.server_id)
        if link is not None and link.address == server.address:
            return link
        if link is not None:
            self._counts_before.add(link.rpc.call_counts)
            link.scope.cancel()
        rpc = RpcClient[ChunkReply](self._environment, server.address, ChunkReply)
        link = _ChunkLink(server.address, rpc, trio.CancelScope(), trio.Event())
        self._links[server.server_id] = link
        assert self._nursery is not None
        self._nursery.start_soon(self._carry, link)
        return link

    async def _carry(self, link: _ChunkLink) -> None:
        with link.scope:
            async with link.rpc:
                link.is_ready.set()
                await trio.sleep_forever()

    # ------------------------------------------------------------ whom to ask

    def avoid(self, server: ChunkServer) -> None:
        """It failed: ask this server last for some seconds, longer each time."""
        now_s = trio.current_time()
        doubt = self._doubts.get(server.server_id)
        if doubt is None:
            self._doubts[server.server_id] = _Doubt(now_s + AVOID_S, AVOID_S, has_failed=True)
        elif now_s >= doubt.until_s or not doubt.has_failed:
            length_s = min(2 * doubt.length_s, AVOID_S_MAX)
            self._doubts[server.server_id] = _Doubt(now_s + length_s, length_s, has_failed=True)

    def note_slow(self, server: ChunkServer) -> None:
        """It has not answered when others had: ask it last, but do not write it off."""
        if server.server_id not in self._doubts:
            until_s = trio.current_time() + AVOID_S
            self._doubts[server.server_id] = _Doubt(until_s, AVOID_S, has_failed=False)

    def is_trusted(self, server: ChunkServer) -> bool:
        """Nothing speaks against asking it now."""
        return server.state is ServerState.UP and self._doubt(server) is None

    def _doubt(self, server: ChunkServer) -> _Doubt | None:
        doubt = self._doubts.get(server.server_id)
        return doubt if doubt is not None and doubt.until_s > trio.current_time() else None

    def for_writing(self, servers: Sequence[ChunkServer], min_copies: int) -> list[ChunkServer]:
        """Whom to count on, best first: the trusted ones, then slow ones; everyone if those are
        fewer than `min_copies`."""
        trusted = [server for server in servers if self.is_trusted(server)]
        slow, failed = [], []
        for server in servers:
            doubt = self._doubt(server)
            if server.state is not ServerState.UP or (doubt is not None and doubt.has_failed):
                failed.append(server)
            elif doubt is not None:
                slow.append(server)
        counted_on = trusted + slow
        return counted_on if len(counted_on) >= min_copies else counted_on + failed

    def for_reading(
        self, servers: Sequence[ChunkServer], copies: int, turn: int
    ) -> list[ChunkServer]:
        """All of them: first the trusted among the first `copies`, rotated by `turn`."""
        trusted = [server for server in servers if self.is_trusted(server)]
        owners = [server for server in servers[:copies] if self.is_trusted(server)]
        if owners:
            first = turn % len(owners)
            owners = owners[first:] + owners[:first]
        ranked = owners + trusted + list(servers)
        # Each where it comes first.
        return list({server.server_id: server for server in ranked}.values())
