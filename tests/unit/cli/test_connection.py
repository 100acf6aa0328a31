"""Goal: a command asks one metadata server after the other, and names all that failed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio

from dfs.cli.connection import first_status
from dfs.core.messages import MetaRequest
from dfs.errors import UserError
from dfs.rpc.server import serve
from dfs.rpc.transport import system_environment
from tests.unit.cli.test_health import UP, status_of

if TYPE_CHECKING:
    from pathlib import Path


async def test_the_first_that_answers(tmp_path: Path) -> None:
    environment = system_environment()
    listener = await environment.network.listen(f"unix:{tmp_path}/m")
    expected = status_of(UP)

    async def handle(request: Any, payload: Any, connection: Any) -> Any:
        return expected

    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve, environment, listener, MetaRequest, handle))
        found = await first_status(environment, [f"unix:{tmp_path}/none", listener.address])
        assert found == expected
        nursery.cancel_scope.cancel()


async def test_everything_that_failed_is_named(tmp_path: Path) -> None:
    addresses = [f"unix:{tmp_path}/a", f"unix:{tmp_path}/b"]
    with pytest.raises(UserError) as caught:
        await first_status(system_environment(), addresses)
    assert all(address in str(caught.value) for address in addresses)
