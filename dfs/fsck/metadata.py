"""The questions that fsck asks of a metadata server, as plain async calls."""

from __future__ import annotations

import errno
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from dfs.core.messages import (
    Done,
    ExportRecords,
    GetRecords,
    GetStatus,
    MetaReply,
    RecordsReply,
    RepairRecords,
    StatusReply,
)
from dfs.errors import DfsError, Disconnected, FsError, RetryableError, UserError
from dfs.fsck.patience import FIRST_ANSWER_TIMEOUT_S, call_patiently
from dfs.limits import SCAN_RECORDS_MAX
from dfs.rpc.client import RpcClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

    from dfs.environment import Environment
    from dfs.types import InodeId

Row = tuple[bytes, bytes]


class ExportLost(DfsError):
    """The moment that was being read is gone: take the census of another one."""


class Metadata:
    """A link to the metadata server. Calls raise Disconnected when it stays lost."""

    def __init__(self, client: RpcClient[MetaReply]) -> None:
        self._client = client

    async def status(self) -> StatusReply:
        """Settings and cluster map of now."""
        reply = await self._ask(GetStatus())
        assert isinstance(reply, StatusReply)
        return reply

    async def pages(self) -> AsyncIterator[tuple[tuple[Row, ...], tuple[InodeId, ...]]]:
        """Pages of all records as of one moment; the first names what sessions hold open.

        Raises ExportLost. A page is never asked for twice: it might be the next one.
        """
        export_id = 0
        while True:
            try:
                reply, _ = await self._client.call(ExportRecords(export_id=export_id))
            except (RetryableError, FsError) as error:
                if isinstance(error, FsError) and error.errno != errno.ESTALE:
                    raise
                raise ExportLost(str(error)) from error
            assert isinstance(reply, RecordsReply)
            if not reply.rows:
                return
            yield reply.rows, reply.held
            export_id = reply.export_id

    async def records(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """What the engine holds now under these keys; absent ones are left out."""
        found: dict[bytes, bytes] = {}
        wanted = list(dict.fromkeys(keys))
        for start in range(0, len(wanted), SCAN_RECORDS_MAX):
            request = GetRecords(keys=tuple(wanted[start : start + SCAN_RECORDS_MAX]))
            reply = await self._ask(request)
            assert isinstance(reply, RecordsReply)
            found.update(reply.rows)
        return found

    async def repair(
        self, checks: Mapping[bytes, bytes | None], puts: Mapping[bytes, bytes | None]
    ) -> bool:
        """Whether it was written; not when a checked record changed meanwhile, or nobody knows."""
        request = RepairRecords(checks=dict(checks), puts=dict(puts))
        try:
            reply, _ = await self._client.call(request)
        except RetryableError:
            await self.status()
            return False
        except FsError as error:
            if error.errno != errno.EAGAIN:
                raise
            return False
        assert isinstance(reply, Done)
        return True

    async def _ask(self, request: GetStatus | GetRecords) -> MetaReply:
        try:
            reply, _ = await call_patiently(self._client, request)
        except RetryableError as error:
            raise Disconnected(f"the metadata server was lost in the check: {error}") from error
        return reply


@asynccontextmanager
async def open_metadata(
    environment: Environment, addresses: Sequence[str]
) -> AsyncIterator[Metadata]:
    """The first metadata server that answers. Raises UserError when none does."""
    assert addresses
    async with AsyncExitStack() as stack:
        yield Metadata(await _first(stack, environment, addresses))


async def _first(
    stack: AsyncExitStack, environment: Environment, addresses: Sequence[str]
) -> RpcClient[MetaReply]:
    problems = []
    for address in addresses:
        client: RpcClient[MetaReply] = RpcClient(environment, address, MetaReply)
        await stack.enter_async_context(client)
        try:
            await client.call(GetStatus(), timeout_s=FIRST_ANSWER_TIMEOUT_S)
        except DfsError as error:
            problems.append(str(error))
        else:
            return client
    raise UserError("no metadata server answers: " + "; ".join(problems))
