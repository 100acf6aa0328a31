"""Running a server in the foreground: ready, until a signal, then ended in order."""

from __future__ import annotations

import logging
import resource
import signal
import socket
from typing import TYPE_CHECKING, Any

import trio

from dfs.background import ReadyLine, tell_parent
from dfs.cli.logs import log_to_stderr
from dfs.cli.ready import telling_parent
from dfs.errors import UserError
from dfs.rpc.transport import TcpAddress, parse_address

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)
META_PORT = 7400
CHUNK_PORT = 7401


def serve_until_signal(server: Callable[..., Awaitable[Any]], ready_fd: int | None) -> None:
    """Run `server(task_status=…)` until SIGTERM or SIGINT; it ends by being cancelled.

    Raises what the server raises.
    """
    log_to_stderr()
    _raise_file_limit()
    with telling_parent(ready_fd):
        trio.run(_serve, server, ready_fd)


async def _serve(server: Callable[..., Awaitable[Any]], ready_fd: int | None) -> None:
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as arrivals:
            nursery.start_soon(_cancel_on_signal, arrivals, nursery.cancel_scope)
            await nursery.start(server)
            tell_parent(ready_fd, ReadyLine())
            await trio.sleep_forever()


async def _cancel_on_signal(arrivals: Any, scope: trio.CancelScope) -> None:
    number = await anext(arrivals)
    log.info("%s: ending", signal.Signals(number).name)
    scope.cancel()


def _raise_file_limit() -> None:
    """Every client is a descriptor, and so is every segment."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def own_host_towards(address: str) -> str:
    """The address of this machine from which `address` is reached. Sends nothing.

    Raises UserError when there is no way to it.
    """
    parsed = parse_address(address)
    if not isinstance(parsed, TcpAddress):
        return "127.0.0.1"
    try:
        found = socket.getaddrinfo(parsed.host, parsed.port or META_PORT, type=socket.SOCK_DGRAM)
        family, kind, protocol, _, place = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(place)
            host = probe.getsockname()[0]
    except OSError as error:
        raise UserError(f"{address}: {error.strerror}; name an address with --listen") from None
    assert isinstance(host, str)
    return host
