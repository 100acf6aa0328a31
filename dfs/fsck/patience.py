"""One call of fsck: a check that takes hours must not end because a server was started again.

Only for requests that may be sent twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import trio

from dfs.errors import RetryableError
from dfs.limits import CALL_TIMEOUT_S

if TYPE_CHECKING:
    from dfs.core.messages import Message
    from dfs.rpc.client import RpcClient

R = TypeVar("R")

FIRST_ANSWER_TIMEOUT_S = 5.0
PATIENCE_S = 15.0
"""How long after its first failure a call is tried again: a killed server is back by then."""
PAUSE_S = 0.25


async def call_patiently(
    client: RpcClient[R], request: Message, *, timeout_s: float = CALL_TIMEOUT_S
) -> tuple[R, bytes | memoryview]:
    """The reply, and its payload. Raises what `RpcClient.call` does, once patience has ended."""
    give_up_s = None
    while True:
        try:
            return await client.call(request, timeout_s=timeout_s)
        except RetryableError:
            now_s = trio.current_time()
            give_up_s = give_up_s or now_s + PATIENCE_S
            if now_s >= give_up_s:
                raise
        await trio.sleep(PAUSE_S)
