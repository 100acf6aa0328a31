"""Links to chunk servers, made when needed, and which servers had better be left alone for now.

A server that broke a link, stayed silent or is full is avoided for some seconds: it is asked last,
and writers do not count on it. That is a hint for order and speed, never for correctness.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import trio

from dfs.core.messages import ChunkReply, ChunkRequest
from dfs.errors import Disconnected, NoSpace, Overloaded, RemoteProtocolError
from dfs.limits import CALL_TIMEOUT_S
from dfs.rpc.client import RpcClient
from dfs.types import ChunkServer, ServerId, ServerState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dfs.core.packets import Payload
    from dfs.environment import Environment

AVOID_S: Final = 5.0


@dataclass(eq=False, slots=True)
class _ChunkLink:
    address: str
    rpc: RpcClient[ChunkReply]
    scope: trio.CancelScope
    is_ready: trio.Event


class ChunkLinks:
    """Calls chunk servers. `run` carries the links."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._links: dict[ServerId, _ChunkLink] = {}
        self._avoided_until_s: dict[ServerId, float] = {}
        self._nursery: trio.Nursery | None = None
        self._calls_before: Counter[str] = Counter()

    @property
    def calls_sent(self) -> Counter[str]:
        """Requests so far to all chunk servers, by the name of their class."""
        return sum(
            (link.rpc.calls_sent for link in self._links.values()), self._calls_before.copy()
        )

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
        self._avoided_until_s.pop(server.server_id, None)
        return answer

    def _link_to(self, server: ChunkServer) -> _ChunkLink:
        link = self._links.get(server.server_id)
        if link is not None and link.address == server.address:
            return link
        if link is not None:
            self._calls_before += link.rpc.calls_sent
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
        """Ask this server last for some seconds."""
        self._avoided_until_s[server.server_id] = trio.current_time() + AVOID_S

    def is_trusted(self, server: ChunkServer) -> bool:
        """Nothing speaks against asking it now."""
        until_s = self._avoided_until_s.get(server.server_id, 0.0)
        return server.state is ServerState.UP and until_s <= trio.current_time()

    def for_writing(self, servers: Sequence[ChunkServer], min_copies: int) -> list[ChunkServer]:
        """Whom to count on, best first: the trusted ones, or everyone if those are too few."""
        trusted = [server for server in servers if self.is_trusted(server)]
        if len(trusted) >= min_copies:
            return trusted
        return trusted + [server for server in servers if not self.is_trusted(server)]

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
