"""A whole cluster in one process, on the virtual clock: real servers over memory, links that break.

Metadata server: the real one over the memory engine, restarted at will. Chunk servers: the real
handlers over the memory store, to be killed, silenced, damaged and filled.
"""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import trio
import trio.testing

from dfs.chunk.handlers import ChunkHandlers
from dfs.chunk.identity import Identity
from dfs.chunk.reporter import Reporter
from dfs.chunk.store_memory import MemoryStore
from dfs.client.client import Client, open_client
from dfs.config import ClientConfig, MetaConfig
from dfs.core.messages import ChunkRequest
from dfs.engine.memory_engine import MemoryEngine, MemoryStorage
from dfs.environment import Environment
from dfs.limits import GIB, KIB
from dfs.meta.server import run_meta_server
from dfs.rpc.server import serve
from dfs.types import Credentials
from tests.unit.chunk.memory_disk import MemoryDisk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

META = "meta:1"
USER = Credentials(1000, 1000, (1000,))
ROOT_USER = Credentials(0, 0)
BLOCK = 64 * KIB


async def run_inline(function: Any, /, *args: object) -> Any:
    """As a worker thread would, but here: other tasks run before and after."""
    await trio.lowlevel.checkpoint()
    result = function(*args)
    await trio.lowlevel.checkpoint()
    return result


def _environment(network: RigNetwork) -> Environment:
    return Environment(
        network=network,
        run_blocking=run_inline,
        now_ns=lambda: int(trio.current_time() * 1e9) + 10**18,
        random=random.Random(7),
    )


class _Listener:
    def __init__(self, network: RigNetwork, address: str) -> None:
        self.address = address
        self._network = network
        self._send, self._receive = trio.open_memory_channel[trio.abc.Stream](1000)

    async def accept(self) -> trio.abc.Stream:
        return await self._receive.receive()

    async def aclose(self) -> None:
        self._network.listeners.pop(self.address, None)
        await self._receive.aclose()

    def arrive(self, stream: trio.abc.Stream) -> None:
        self._send.send_nowait(stream)


class _ServerStream(trio.abc.Stream):
    """A server's end of a link: it hears whether the client broke it or ended it in order."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.is_aborted = False

    async def send_all(self, data: Any) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        data: bytes = await self._stream.receive_some(max_bytes)
        if not data and self.is_aborted:
            raise trio.BrokenResourceError("reset by the client")
        return data

    async def aclose(self) -> None:
        await self._stream.aclose()


class _FragileStream(trio.abc.Stream):
    """A client's end of a link. Each send and each receive is a point at which it may break."""

    def __init__(self, network: RigNetwork, address: str, stream: Any, far: _ServerStream) -> None:
        self._network = network
        self._address = address
        self._stream = stream
        self._far = far

    def abort(self) -> None:
        self._far.is_aborted = True

    async def _break(self) -> None:
        self.abort()
        await self._stream.aclose()
        raise trio.BrokenResourceError("broken by the test")

    async def send_all(self, data: Any) -> None:
        if self._network.is_breaking(self._address):
            await self._break()
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        data: bytes = await self._stream.receive_some(max_bytes)
        if self._address in self._network.gates:
            await self._network.gates[self._address].wait()
        if data and self._network.is_breaking(self._address):
            await self._break()
        return data

    async def aclose(self) -> None:
        await self._stream.aclose()


class RigNetwork:
    """Memory streams. `break_at[address] = n` breaks the link at the n-th send or receive."""

    def __init__(self, listeners: dict[str, _Listener]) -> None:
        self.listeners = listeners
        self.unreachable: set[str] = set()
        self.break_at: dict[str, int] = {}
        self.broken_count = 0
        self.gates: dict[str, trio.Event] = {}
        """What servers answer waits until this is set."""

    def is_breaking(self, address: str) -> bool:
        left = self.break_at.get(address)
        if left is None:
            return False
        if left > 0:
            self.break_at[address] = left - 1
            return False
        del self.break_at[address]
        self.broken_count += 1
        return True

    async def connect(self, address: str) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        if address not in self.listeners or address in self.unreachable:
            raise ConnectionRefusedError(111, "Connection refused")
        near, far_end = trio.testing.memory_stream_pair()
        far = _ServerStream(far_end)
        self.listeners[address].arrive(far)
        return _FragileStream(self, address, near, far)

    async def listen(self, address: str) -> _Listener:
        assert address not in self.listeners
        listener = self.listeners[address] = _Listener(self, address)
        return listener

    def abort(self, stream: trio.abc.Stream) -> None:
        assert isinstance(stream, _FragileStream)
        stream.abort()


class ChunkRig:
    """One chunk server."""

    def __init__(self, rig: Rig, number: int, capacity_bytes: int) -> None:
        self._rig = rig
        self.address = f"chunk{number}:1"
        self.store = MemoryStore(capacity_bytes=capacity_bytes)
        self.disk = MemoryDisk()
        self.identity = Identity.open(self.disk, rig.environment.random, self.address)
        self.delay_s = 0.0
        """Before every answer; infinite is silence."""
        self._scope: trio.CancelScope | None = None

    @property
    def server_id(self) -> str:
        return self.identity.server_id

    async def start(self) -> None:
        assert self._scope is None
        self._scope = await self._rig.nursery.start(self._run)

    def kill(self) -> None:
        assert self._scope is not None
        self._scope.cancel()
        self._scope = None

    async def _run(self, *, task_status: Any) -> None:
        environment = self._rig.environment
        handlers = ChunkHandlers(self.store, self.identity)

        async def handle(request: Any, payload: Any, connection: Any) -> Any:
            await trio.sleep(self.delay_s)
            return await handlers.handle(request, payload, connection)

        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                listener = await environment.network.listen(self.address)
                await nursery.start(serve, environment, listener, ChunkRequest, handle)
                reporter = Reporter(
                    environment,
                    self.store,
                    self.identity,
                    [META],
                    address=self.address,
                    zone=self.server_id,
                )
                nursery.start_soon(reporter.run)
                task_status.started(scope)


class Rig:
    """The cluster."""

    def __init__(self, nursery: trio.Nursery, meta_config: MetaConfig) -> None:
        self.nursery = nursery
        self.network = RigNetwork({})
        """Of clients; servers have their own, which never fails."""
        self.client_environment = _environment(self.network)
        self.environment = _environment(RigNetwork(self.network.listeners))
        self.storage = MemoryStorage()
        self.chunks: list[ChunkRig] = []
        self._meta_config = meta_config
        self._meta_scope: trio.CancelScope | None = None

    async def start_meta(self) -> None:
        assert self._meta_scope is None
        self._meta_scope = await self.nursery.start(self._run_meta)

    def kill_meta(self) -> None:
        assert self._meta_scope is not None
        self._meta_scope.cancel()
        self._meta_scope = None

    async def _run_meta(self, *, task_status: Any) -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                run = partial(run_meta_server, engine=MemoryEngine(self.storage))
                await nursery.start(run, self._meta_config, self.environment)
                task_status.started(scope)

    @asynccontextmanager
    async def client(self, **settings: Any) -> AsyncIterator[Client]:
        """A client that sees all chunk servers."""
        config = ClientConfig(**settings)
        async with open_client(self.client_environment, [META], config=config) as client:
            for _ in range(100):
                if len(client.cluster_map.servers) == len(self.chunks):
                    break
                await trio.sleep(0.2)
                await client.meta.refresh_map()
            assert len(client.cluster_map.servers) == len(self.chunks)
            yield client


@asynccontextmanager
async def cluster(
    *,
    chunk_count: int = 3,
    capacity_bytes: int = GIB,
    **meta_settings: Any,
) -> AsyncIterator[Rig]:
    """A running cluster with two copies and small blocks, unless told otherwise."""
    settings = {"listen": META, "block_bytes": BLOCK, "copies": 2, **meta_settings}
    async with trio.open_nursery() as nursery:
        rig = Rig(nursery, MetaConfig(**settings))
        await rig.start_meta()
        for number in range(chunk_count):
            rig.chunks.append(ChunkRig(rig, number, capacity_bytes))
            await rig.chunks[-1].start()
        yield rig
        nursery.cancel_scope.cancel()


def pattern(length: int, seed: int = 0) -> bytes:
    """Bytes that do not compress, the same for the same seed."""
    return random.Random(seed).randbytes(length)
