"""Streams from the operating system: TCP and Unix sockets. The simulation has a network of its own.

Addresses are `HOST:PORT`, `[IPV6]:PORT` or `unix:PATH`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import struct
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from dfs.environment import Environment, Listener, Network
from dfs.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

UNIX_PREFIX: Final = "unix:"
BACKLOG: Final = 512
BLOCKING_THREADS_MAX: Final = 16
UNIX_MODE: Final = 0o600
"""Only the same user may connect: on a Unix socket nobody proves who they are."""
KEEP_ALIVE_IDLE_S: Final = 10
KEEP_ALIVE_PROBES: Final = 3


class TcpAddress(NamedTuple):
    host: str
    port: int


class UnixAddress(NamedTuple):
    path: str


def parse_address(address: str) -> TcpAddress | UnixAddress:
    """What an address names. Raises UserError with exit status 2: it is not one."""
    if address.startswith(UNIX_PREFIX):
        path = address.removeprefix(UNIX_PREFIX)
        if not path or "\0" in path:
            raise UserError(f"{address!r} is not an address: unix:PATH needs a path", 2)
        return UnixAddress(path)
    host, colon, port_text = address.rpartition(":")
    if not colon or not port_text.isascii() or not port_text.isdigit():
        raise UserError(f"{address!r} is not an address: use HOST:PORT or unix:PATH", 2)
    port = int(port_text)
    if port > 65535:
        raise UserError(f"{address!r} is not an address: ports end at 65535", 2)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise UserError(f"{address!r} is not an address: write IPv6 as [{host}]:{port}", 2)
    if not host:
        raise UserError(f"{address!r} is not an address: the host is missing", 2)
    return TcpAddress(host, port)


def format_address(host: str, port: int) -> str:
    """The text that `parse_address` reads."""
    assert 0 <= port <= 65535
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class SystemNetwork(Network):
    """The machine's own network."""

    async def connect(self, address: str) -> trio.abc.Stream:
        """Open a stream. Raises OSError when nobody listens, UserError for what is no address."""
        parsed = parse_address(address)
        if isinstance(parsed, UnixAddress):
            return await trio.open_unix_socket(parsed.path)
        try:
            stream = await trio.open_tcp_stream(parsed.host, parsed.port)
        except OSError as error:
            raise _plain_error(error) from error
        _tune_tcp(stream.socket)
        return stream

    async def listen(self, address: str) -> Listener:
        """Listen. Raises OSError: it is taken or not ours; UserError: it is no address."""
        parsed = parse_address(address)
        if isinstance(parsed, UnixAddress):
            return _UnixListener(parsed.path)
        return await _listen_tcp(parsed)

    def abort(self, stream: trio.abc.Stream) -> None:
        """A reset instead of an end (SO_LINGER of socket(7)). A Unix socket has none, and no
        network that could keep its client from coming back at once."""
        assert isinstance(stream, trio.SocketStream)
        if stream.socket.family != socket.AF_UNIX:
            at_once = struct.pack("ii", 1, 0)
            with suppress(OSError):
                stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)


async def _listen_tcp(address: TcpAddress) -> Listener:
    try:
        return _TcpListener(await _bind_tcp(address))
    except OSError as error:
        name = format_address(*address)
        raise OSError(error.errno, f"cannot listen on {name}: {error.strerror}") from error


async def _bind_tcp(address: TcpAddress) -> trio.socket.SocketType:
    """A listening socket on the first of the addresses that the name stands for."""
    found = await trio.socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, _, _, _, socket_address = found[0]
    listening = trio.socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        await listening.bind(socket_address)
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


def _plain_error(error: OSError) -> OSError:
    """Why the first of the attempts failed that trio tells of with a common error."""
    cause = error.__cause__
    if isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    if isinstance(cause, OSError) and cause.errno:
        return OSError(cause.errno, os.strerror(cause.errno))
    return error


class _TcpListener(Listener):
    def __init__(self, listening: trio.socket.SocketType) -> None:
        self._listener = trio.SocketListener(listening)
        self.address = format_address(*listening.getsockname()[:2])

    async def accept(self) -> trio.abc.Stream:
        stream = await self._listener.accept()
        _tune_tcp(stream.socket)
        return stream

    async def aclose(self) -> None:
        await self._listener.aclose()


class _UnixListener(Listener):
    """A socket file; removed at the end if it is still this one."""

    def __init__(self, path: str) -> None:
        listening = _bind_unix(path)
        self._path = path
        self._file = _file_identity(path)
        self._listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening))
        self.address = UNIX_PREFIX + path

    async def accept(self) -> trio.abc.Stream:
        return await self._listener.accept()

    async def aclose(self) -> None:
        if _file_identity(self._path) == self._file:
            os.unlink(self._path)
        await self._listener.aclose()


def _bind_unix(path: str) -> socket.socket:
    """A listening socket at `path`, in the place of one that nobody listens on any more.

    Raises OSError: EADDRINUSE when somebody does, or when the path is something else.
    """
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.setblocking(False)
        with _locked_directory(path):
            _remove_stale_socket(path)
            listening.bind(path)
            Path(path).chmod(UNIX_MODE)
            listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        problem = f"cannot listen on {UNIX_PREFIX}{path}: {error.strerror or error}"
        raise OSError(error.errno, problem) from error
    return listening


@contextmanager
def _locked_directory(path: str) -> Iterator[None]:
    """Keep two servers from both taking the other's new socket for a stale one."""
    directory = os.open(Path(path).parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def _remove_stale_socket(path: str) -> None:
    """Remove the socket file that a dead server left behind. Anything else stays."""
    try:
        mode = Path(path).lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISSOCK(mode) and not _is_listened_on(path):
        Path(path).unlink()


def _is_listened_on(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(path) != errno.ECONNREFUSED


def _file_identity(path: str) -> tuple[int, int] | None:
    """Which file is at `path` now; None if none is."""
    try:
        found = Path(path).lstat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _tune_tcp(stream_socket: trio.socket.SocketType) -> None:
    """Send small packets at once, and notice a machine that vanished."""
    stream_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream_socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    stream_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEP_ALIVE_IDLE_S)
    stream_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEP_ALIVE_IDLE_S)
    stream_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEP_ALIVE_PROBES)
    # Probes are only sent while nothing else is under way; this is for a link that was sending.
    patience_ms = KEEP_ALIVE_IDLE_S * (1 + KEEP_ALIVE_PROBES) * 1000
    stream_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience_ms)


def system_environment() -> Environment:
    """The real world: the machine's clock, randomness, threads and network."""
    threads = trio.CapacityLimiter(BLOCKING_THREADS_MAX)
    return Environment(
        network=SystemNetwork(), run_blocking=partial(trio.to_thread.run_sync, limiter=threads)
    )
