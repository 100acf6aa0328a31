"""A link from a command to a cluster's metadata service."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from dfs.core.messages import GetStatus, MetaReply, StatusReply
from dfs.errors import DfsError, UserError
from dfs.rpc.client import RpcClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from dfs.environment import Environment

FIRST_ANSWER_TIMEOUT_S = 5.0


async def first_status(environment: Environment, addresses: Sequence[str]) -> StatusReply:
    """Status from the first metadata server that answers.

    Raises UserError that names every address and why it did not.
    """
    assert addresses
    problems = []
    for address in addresses:
        try:
            async with meta_client(environment, address) as client:
                reply, _ = await client.call(GetStatus(), timeout_s=FIRST_ANSWER_TIMEOUT_S)
        except DfsError as error:
            problems.append(str(error))
            continue
        assert isinstance(reply, StatusReply)
        return reply
    raise UserError("no metadata server answers: " + "; ".join(problems))


@asynccontextmanager
async def meta_client(
    environment: Environment, address: str
) -> AsyncIterator[RpcClient[MetaReply]]:
    client: RpcClient[MetaReply] = RpcClient(environment, address, MetaReply)
    async with client:
        yield client
