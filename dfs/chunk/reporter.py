"""Tells a metadata server, again and again, that this chunk server is alive and how full it is."""

from __future__ import annotations

import logging
from itertools import cycle
from typing import TYPE_CHECKING

import trio

from dfs.core.messages import MetaReply, ReportReply, ReportServer
from dfs.errors import DfsError, WrongCluster
from dfs.limits import SERVER_REPORT_S
from dfs.rpc.client import RpcClient

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dfs.chunk.identity import Identity
    from dfs.chunk.store import BlockStore
    from dfs.environment import Environment

logger = logging.getLogger(__name__)


class Reporter:
    """Reports to the first of `addresses` that answers; keeps trying while none does."""

    def __init__(
        self,
        environment: Environment,
        store: BlockStore,
        identity: Identity,
        addresses: Sequence[str],
        *,
        address: str,
        zone: str,
    ) -> None:
        assert addresses
        assert address
        assert zone
        self._environment = environment
        self._store = store
        self._identity = identity
        self._addresses = addresses
        self._address = address
        self._zone = zone
        self._problem = ""
        """Why the last report failed: said once, not every second."""

    async def run(self) -> None:
        """Report until cancelled. Raises WrongCluster: this server has no business there."""
        for address in cycle(self._addresses):
            client: RpcClient[MetaReply] = RpcClient(self._environment, address, MetaReply)
            async with client:
                await self._report_to(client)

    async def _report_to(self, client: RpcClient[MetaReply]) -> None:
        """Report to one server for as long as that works."""
        is_through = True
        while is_through:
            is_through = await self._report(client)
            await trio.sleep(SERVER_REPORT_S)

    async def _report(self, client: RpcClient[MetaReply]) -> bool:
        """One report. False when it did not get through."""
        try:
            status = await self._store.status()
            reply, _ = await client.call(
                ReportServer(
                    server_id=self._identity.server_id,
                    cluster_id=self._identity.cluster_id,
                    address=self._address,
                    zone=self._zone,
                    space=status.space,
                    block_count=status.block_count,
                )
            )
            if not isinstance(reply, ReportReply):
                self._note_problem(f"{client.address} answers a report with nonsense")
                return False
            await self._environment.run_blocking(self._identity.join, reply.cluster_id)
        except WrongCluster:
            raise
        except DfsError as error:
            self._note_problem(str(error))
            return False
        self._note_success(client.address)
        return True

    def _note_problem(self, problem: str) -> None:
        if not self._problem:
            logger.warning("reports do not get through: %s; trying on", problem)
        self._problem = problem

    def _note_success(self, address: str) -> None:
        if self._problem:
            logger.info("reports get through to %s again", address)
        self._problem = ""
