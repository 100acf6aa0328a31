"""The machine's own network: addresses, TCP, socket files and what is left of dead servers."""

from __future__ import annotations

import errno
import socket
import stat
import threading
from typing import TYPE_CHECKING

import pytest
import trio

from dfs.errors import UserError
from dfs.rpc.transport import (
    BLOCKING_THREADS_MAX,
    SystemNetwork,
    TcpAddress,
    UnixAddress,
    format_address,
    parse_address,
    system_environment,
)

if TYPE_CHECKING:
    from pathlib import Path

    from dfs.environment import Listener


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


# ------------------------------------------------------------------------------ addresses


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("localhost:7000", TcpAddress("localhost", 7000)),
        ("10.0.0.1:0", TcpAddress("10.0.0.1", 0)),
        ("[::1]:65535", TcpAddress("::1", 65535)),
        ("host.example:1", TcpAddress("host.example", 1)),
        ("unix:/run/dfs/meta.sock", UnixAddress("/run/dfs/meta.sock")),
        ("unix:relative path:7", UnixAddress("relative path:7")),
    ],
)
def test_addresses(text: str, parsed: TcpAddress | UnixAddress) -> None:
    assert parse_address(text) == parsed
    if isinstance(parsed, TcpAddress):
        assert format_address(parsed.host, parsed.port) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "use HOST:PORT or unix:PATH"),
        ("localhost", "use HOST:PORT or unix:PATH"),
        ("localhost:", "use HOST:PORT or unix:PATH"),
        ("localhost:http", "use HOST:PORT or unix:PATH"),
        ("localhost:-1", "use HOST:PORT or unix:PATH"),
        ("localhost:7000/", "use HOST:PORT or unix:PATH"),
        ("localhost:\u0667", "use HOST:PORT or unix:PATH"),
        ("localhost:65536", "ports end at 65535"),
        (":7000", "the host is missing"),
        ("[]:7000", "the host is missing"),
        ("::1:7000", "write IPv6 as [::1]:7000"),
        ("unix:", "unix:PATH needs a path"),
        ("unix:a\0b", "unix:PATH needs a path"),
    ],
)
def test_what_is_no_address(text: str, reason: str) -> None:
    with pytest.raises(UserError) as raised:
        parse_address(text)
    assert str(raised.value) == f"{text!r} is not an address: {reason}"
    assert raised.value.exit_status == 2


# ------------------------------------------------------------------------------ streams


async def exchange(listener: Listener) -> tuple[trio.abc.Stream, trio.abc.Stream]:
    """Connect to the listener and say a word each way."""
    near = await SystemNetwork().connect(listener.address)
    far = await listener.accept()
    await near.send_all(b"ping")
    assert await far.receive_some(100) == b"ping"
    await far.send_all(b"pong")
    assert await near.receive_some(100) == b"pong"
    return near, far


async def close(*resources: trio.abc.AsyncResource | Listener) -> None:
    for resource in resources:
        await resource.aclose()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_tcp(host: str) -> None:
    """Port 0 is resolved, and both ends send small packets at once."""
    listener = await SystemNetwork().listen(f"{host}:0")
    assert not listener.address.endswith(":0")
    near, far = await exchange(listener)
    for end in (near, far):
        assert isinstance(end, trio.SocketStream)
        assert end.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert end.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    await close(near, far, listener)


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
async def test_tcp_ipv6() -> None:
    listener = await SystemNetwork().listen("[::1]:0")
    assert listener.address.startswith("[::1]:")
    near, far = await exchange(listener)
    await close(near, far, listener)


async def test_tcp_address_in_use() -> None:
    listener = await SystemNetwork().listen("127.0.0.1:0")
    with pytest.raises(OSError) as raised:
        await SystemNetwork().listen(listener.address)
    assert raised.value.errno == errno.EADDRINUSE
    assert raised.value.strerror == f"cannot listen on {listener.address}: Address already in use"
    await listener.aclose()
    again = await SystemNetwork().listen(listener.address)
    await again.aclose()


async def test_tcp_address_of_another_machine() -> None:
    with pytest.raises(OSError) as raised:
        await SystemNetwork().listen("192.0.2.1:7000")
    assert raised.value.errno == errno.EADDRNOTAVAIL
    assert "cannot listen on 192.0.2.1:7000" in str(raised.value)


async def test_nobody_listens_on_tcp() -> None:
    listener = await SystemNetwork().listen("127.0.0.1:0")
    await listener.aclose()
    with pytest.raises(ConnectionRefusedError) as raised:
        await SystemNetwork().connect(listener.address)
    assert raised.value.strerror == "Connection refused"


async def test_connecting_to_no_address() -> None:
    with pytest.raises(UserError):
        await SystemNetwork().connect("nowhere")
    with pytest.raises(UserError):
        await SystemNetwork().listen("nowhere")


# ------------------------------------------------------------------------------ socket files


async def test_unix(tmp_path: Path) -> None:
    """The socket file is there while somebody listens, for this user only."""
    path = tmp_path / "s"
    listener = await SystemNetwork().listen(f"unix:{path}")
    assert listener.address == f"unix:{path}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    near, far = await exchange(listener)
    await close(near, far, listener)
    assert not path.exists()
    with pytest.raises(FileNotFoundError):
        await SystemNetwork().connect(f"unix:{path}")


def leave_stale_socket(path: Path) -> None:
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    dead.bind(str(path))
    dead.listen()
    dead.close()


async def test_a_dead_servers_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    leave_stale_socket(path)
    with pytest.raises(ConnectionRefusedError):
        await SystemNetwork().connect(f"unix:{path}")
    listener = await SystemNetwork().listen(f"unix:{path}")
    near, far = await exchange(listener)
    await close(near, far, listener)


async def test_a_living_servers_socket_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    listener = await SystemNetwork().listen(f"unix:{path}")
    with pytest.raises(OSError) as raised:
        await SystemNetwork().listen(f"unix:{path}")
    assert raised.value.errno == errno.EADDRINUSE
    assert raised.value.strerror == f"cannot listen on unix:{path}: Address already in use"
    probe = await listener.accept()  # how the second one found out
    near, far = await exchange(listener)
    await close(probe, near, far, listener)


async def test_a_file_that_is_no_socket_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(OSError) as raised:
        await SystemNetwork().listen(f"unix:{path}")
    assert raised.value.errno == errno.EADDRINUSE
    assert path.read_text() == "precious"


async def test_closing_leaves_another_servers_socket(tmp_path: Path) -> None:
    """Whoever took the path over meanwhile keeps it."""
    path = tmp_path / "s"
    first = await SystemNetwork().listen(f"unix:{path}")
    path.rename(tmp_path / "elsewhere")
    second = await SystemNetwork().listen(f"unix:{path}")
    await first.aclose()
    near, far = await exchange(second)
    await close(near, far, second)


@pytest.mark.parametrize("name", ["missing/s", "x" * 120])
async def test_a_path_that_cannot_be(tmp_path: Path, name: str) -> None:
    with pytest.raises(OSError) as raised:
        await SystemNetwork().listen(f"unix:{tmp_path / name}")
    assert f"cannot listen on unix:{tmp_path / name}: " in str(raised.value)


# ------------------------------------------------------------------------------ ends of links


@pytest.mark.parametrize("is_aborted", [True, False])
async def test_tcp_tells_a_broken_link_from_one_that_ended(is_aborted: bool) -> None:
    """What was sent before may be lost with it."""
    network = SystemNetwork()
    listener = await network.listen("127.0.0.1:0")
    near, far = await exchange(listener)
    if is_aborted:
        network.abort(near)
    await near.aclose()
    if is_aborted:
        with pytest.raises(trio.BrokenResourceError):
            await far.receive_some()
    else:
        assert await far.receive_some() == b""
    await close(far, listener)


async def test_a_unix_link_always_ends_in_order(tmp_path: Path) -> None:
    """A process that closed it is on this machine, and back at once if it lives."""
    network = SystemNetwork()
    listener = await network.listen(f"unix:{tmp_path / 's'}")
    near, far = await exchange(listener)
    network.abort(near)
    await near.aclose()
    assert await far.receive_some() == b""
    await close(far, listener)


async def test_what_is_closed_already_cannot_be_aborted() -> None:
    network = SystemNetwork()
    listener = await network.listen("127.0.0.1:0")
    near, far = await exchange(listener)
    await near.aclose()
    network.abort(near)
    assert await far.receive_some() == b""
    await close(far, listener)


# ------------------------------------------------------------------------------ environment


async def test_blocking_work_runs_in_its_own_bounded_threads() -> None:
    """All threads work at once, none of them the event loop's, and no more than the limit."""
    environment = system_environment()
    everyone_is_here = threading.Barrier(BLOCKING_THREADS_MAX)
    names: list[str] = []

    def work(word: str) -> None:
        everyone_is_here.wait(timeout=30)
        names.append(threading.current_thread().name + word)

    async with trio.open_nursery() as nursery:
        for _ in range(2 * BLOCKING_THREADS_MAX):
            nursery.start_soon(environment.run_blocking, work, "!")
    assert len(names) == 2 * BLOCKING_THREADS_MAX
    assert threading.current_thread().name + "!" not in names
    assert len(set(names)) <= BLOCKING_THREADS_MAX


async def test_blocking_work_returns_and_raises() -> None:
    environment = system_environment()
    assert await environment.run_blocking(max, 1, 5) == 5
    with pytest.raises(ZeroDivisionError):
        await environment.run_blocking(divmod, 1, 0)
