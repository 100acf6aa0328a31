"""The whole server: under random load it does what a sequential one would, whatever breaks."""

from __future__ import annotations

import errno
import random
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

import dfs.meta.reaper
import dfs.meta.streams
from dfs.config import MetaConfig
from dfs.core.messages import GetAttr, InodeReply, MetaReply, OpenSession, ReadDirectory
from dfs.core.namespace.apply import apply
from dfs.core.namespace.entries import root_records
from dfs.core.namespace.keys import CONFIG, SESSION, table_of
from dfs.core.namespace.ops import Link, Rename, SetAttr, SetXattr
from dfs.core.namespace.records import Record, encode_record
from dfs.core.namespace.view import Overlay, ScanRange
from dfs.engine.api import EngineDamaged, Unknown
from dfs.engine.lmdb_engine import LmdbEngine
from dfs.engine.memory_engine import MemoryEngine
from dfs.errors import Disconnected, Fenced, FsError, NoSpace, Overloaded
from dfs.meta.committer import Committer
from dfs.meta.server import run_meta_server
from dfs.rpc.client import RpcClient
from dfs.rpc.transport import system_environment
from dfs.types import ROOT, InodeId
from tests.unit.meta.rig import (
    NOW_NS,
    USER,
    Mount,
    Threads,
    assert_sound,
    environment_of,
    rows_of,
    running,
    unlink,
    write_block,
)
from tests.unit.rpc.memory_network import MemoryNetwork

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dfs.core.namespace.ops import AnyOp, ClientOp
    from dfs.environment import Environment
    from dfs.meta.server import MetaServer

R = TypeVar("R", bound=Record)

PATIENCE_S = 1.0


# ---------------------------------------------------------------- against a sequential model


class Log:
    """What the server applied, in the order in which it did."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[tuple[AnyOp, Any]] = []
        """Op and its result, or its errno."""
        self._of_this_change: list[tuple[AnyOp, Any]] = []
        original = Committer.apply

        def logged_apply(overlay: Overlay, op: AnyOp) -> Any:
            self._newest_op = op
            result = apply(overlay, op)
            self._of_this_change.append((op, result))
            return result

        def logged_change(committer: Committer, function: Callable[[Overlay], Any]) -> Any:
            self._of_this_change.clear()
            try:
                changed = original(committer, function)
            except FsError as error:
                self.done.append((self._newest_op, error.errno))
                raise
            self.done.extend(self._of_this_change)
            return changed

        monkeypatch.setattr(dfs.meta.streams, "apply", logged_apply)
        monkeypatch.setattr(dfs.meta.reaper, "apply", logged_apply)
        monkeypatch.setattr(Committer, "apply", logged_change)


class Sequential:
    """A volume in a dict, which never lacks anything. Is a View."""

    def __init__(self) -> None:
        self.records: dict[bytes, Record] = dict(root_records(NOW_NS))

    def get(self, key: bytes, record_type: type[R]) -> R | None:
        record = self.records.get(key)
        assert record is None or isinstance(record, record_type)
        return record

    def scan(self, scan_range: ScanRange, record_type: type[R]) -> list[tuple[bytes, R]]:
        start, end, limit, is_reverse = scan_range
        keys = sorted((k for k in self.records if start <= k < end), reverse=is_reverse)
        return [(key, self.records[key]) for key in keys[:limit]]  # type: ignore[misc]

    def replay(self, op: AnyOp, expected: Any) -> None:
        overlay = Overlay(self)
        try:
            result: Any = apply(overlay, op)
        except FsError as error:
            result = error.errno
        assert result == expected, op
        if isinstance(result, int):
            return
        for key, record in overlay.changes.items():
            self.records.pop(key, None)
            if record is not None:
                self.records[key] = record


class Worker:
    """A client that does random things to names that all clients share."""

    def __init__(self, mount: Mount, chance: random.Random) -> None:
        self.mount = mount
        self.chance = chance
        self.known: list[InodeId] = [ROOT]

    def name(self) -> bytes:
        return b"n%d" % self.chance.randrange(6)

    def directory(self) -> InodeId:
        return self.chance.choice(self.known)

    def random_op(self) -> ClientOp:
        mount, parent, ino = self.mount, self.directory(), self.chance.choice(self.known)
        match self.chance.randrange(10):
            case 0 | 1:
                op = mount.create(self.name(), parent=parent, is_exclusive=False)
                self.known.append(op.ino)
                return op
            case 2:
                made = mount.mkdir(self.name(), parent=parent)
                self.known.append(made.ino)
                return made
            case 3 | 4:
                return unlink(self.name(), parent=parent)
            case 5:
                return Rename(
                    credentials=USER,
                    now_ns=NOW_NS,
                    parent=parent,
                    name=self.name(),
                    new_parent=self.directory(),
                    new_name=self.name(),
                )
            case 6:
                return Link(
                    credentials=USER, now_ns=NOW_NS, ino=ino, parent=parent, name=self.name()
                )
            case 7:
                size = self.chance.randrange(200_000)
                return SetAttr(credentials=USER, now_ns=NOW_NS, ino=ino, size=size)
            case 8:
                value = self.chance.randbytes(9)
                return SetXattr(
                    credentials=USER, now_ns=NOW_NS, ino=ino, name=b"user.a", value=value
                )
            case _:
                offset = self.chance.randrange(4) * 65536
                return write_block(ino, self.chance.randrange(8), offset=offset)

    async def work(self, count: int) -> None:
        for _ in range(count):
            if self.chance.random() < 0.3:
                await self.look()
            ops = [
                self.mount.number(self.random_op(), has_hold=False)
                for _ in range(self.chance.randrange(1, 4))
            ]
            await self.mount.send(*ops)
            self.mount.answered_below = self.mount.next_number

    async def look(self) -> None:
        with suppress(FsError):
            await self.mount.ask(ReadDirectory(ino=self.directory()))
            await self.mount.getattr(self.chance.choice(self.known))


def simulated(main: Callable[[], Any], seed: int) -> None:
    """Run on a virtual clock; the same seed makes the same run."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(trio._core._run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
        monkeypatch.setattr(trio._core._run, "_r", random.Random(seed))
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@settings(max_examples=25)
@given(seed=st.integers(0, 1 << 32), records_max=st.sampled_from([10, 100, 100_000]))
def test_many_clients_at_once_are_like_one_after_the_other(seed: int, records_max: int) -> None:
    """Slow random fetches, slow commits, memory that is too small: the applied ops, replayed one by
    one on a volume that never lacks anything, give the same results and the same records."""
    chance, threads, engine = random.Random(seed), Threads(), MemoryEngine()

    async def main() -> None:
        with pytest.MonkeyPatch.context() as monkeypatch:
            log = Log(monkeypatch)
            async with running(engine, threads, cached_records_max=records_max) as server:
                threads.delay_s = lambda: chance.random() * 0.01
                async with trio.open_nursery() as nursery:
                    for number in range(1, 6):
                        worker = Worker(await Mount.arrive(server, number), chance)
                        nursery.start_soon(worker.work, 25)
                await trio.sleep(5)
        model = Sequential()
        for op, expected in log.done:
            model.replay(op, expected)
        kept = {k: v for k, v in rows_of(engine).items() if table_of(k) not in (SESSION, CONFIG)}
        assert kept == {key: encode_record(record) for key, record in model.records.items()}
        assert len(log.done) > 125

    simulated(main, seed)
    assert_sound(engine)


# ---------------------------------------------------------------- whatever breaks


class Stubborn:
    """A client of its own directory that does everything exactly once, whatever breaks (I8)."""

    def __init__(self, number: int, chance: random.Random) -> None:
        self.number = number
        self.chance = chance
        self.mount: Mount | None = None
        self.links = 0
        self.names: dict[bytes, InodeId] = {}
        self.directory: InodeId | None = None
        self.told: Counter[int] = Counter()

    async def work(self, servers: list[MetaServer | None], count: int) -> None:
        for step in range(count):
            op = await self._next_op(servers, step)
            assert self.mount is not None
            numbered = self.mount.number(op)
            outcome = await self._until_told(servers, numbered)
            self.mount.answered_below = numbered.number + 1
            self.told[outcome.errno] += 1
            self._note(op, outcome)

    async def _next_op(self, servers: list[MetaServer | None], step: int) -> ClientOp:
        if self.mount is None:
            self.mount = await self._arrive(servers)
        if self.directory is None:
            return self.mount.mkdir(b"d%d-%d" % (self.number, step))
        if self.names and self.chance.random() < 0.4:
            return unlink(self.chance.choice(sorted(self.names)), parent=self.directory)
        if self.names and self.chance.random() < 0.2:
            return self.mount.create(self.chance.choice(sorted(self.names)), parent=self.directory)
        if self.names and self.chance.random() < 0.3:
            ino = self.names[self.chance.choice(sorted(self.names))]
            return write_block(ino, self.chance.randrange(5))
        return self.mount.create(b"f%d" % step, parent=self.directory)

    def _note(self, op: Any, outcome: Any) -> None:
        if outcome.errno == errno.ENOSPC:
            return
        match type(op).__name__:
            case "Mkdir":
                assert outcome.errno == 0
                self.directory = op.ino
            case "Create" if op.name in self.names:
                assert outcome.errno == errno.EEXIST
            case "Create":
                assert outcome.errno == 0, "nobody else makes names here"
                self.names[op.name] = op.ino
            case "Unlink":
                assert outcome.errno == 0, "nobody else removes names here"
                del self.names[op.name]
            case _:
                assert outcome.errno == 0

    async def _arrive(self, servers: list[MetaServer | None]) -> Mount:
        while True:
            server = servers[0]
            self.links += 1
            with suppress(Overloaded, NoSpace, Disconnected), trio.move_on_after(PATIENCE_S):
                if server is not None:
                    return await Mount.arrive(server, self.number * 1000 + self.links)
            await trio.sleep(0.01)

    async def _until_told(self, servers: list[MetaServer | None], numbered: Any) -> Any:
        assert self.mount is not None
        while True:
            server = servers[0]
            # A link may break at any time: the answer is lost, the op perhaps not.
            patience_s = self.chance.choice([0.02, PATIENCE_S])
            with suppress(Overloaded, Disconnected), trio.move_on_after(patience_s) as waiting:
                if server is not None and self.mount.server is not server:
                    await self._come_back(server)
                if server is not None:
                    return (await self.mount.send(numbered))[0]
            if server is not None and waiting.cancelled_caught:
                with suppress(Overloaded, Disconnected), trio.move_on_after(PATIENCE_S):
                    await self._come_back(server)
            await trio.sleep(0.01)

    async def _come_back(self, server: MetaServer) -> None:
        assert self.mount is not None
        self.links += 1
        await self.mount.come_back(server, self.number * 1000 + self.links)


@pytest.mark.expects_warnings
@settings(max_examples=20)
@given(seed=st.integers(0, 1 << 32))
def test_everything_happens_exactly_once_whatever_breaks(seed: int) -> None:
    """Full disks, unknown outcomes, links that break, servers that die in a commit or are fenced by
    the next one; at the end every client finds in its directory exactly what it was told."""
    chance, storage = random.Random(seed), [MemoryEngine()]
    servers: list[MetaServer | None] = [None]

    async def one_life(threads: Threads, is_done: trio.Event) -> None:
        try:
            async with running(storage[0], threads, cached_records_max=50) as server:
                servers[0] = server
                with trio.move_on_after(chance.random() * 0.6):
                    await is_done.wait()
                if not is_done.is_set() and chance.random() < 0.6:
                    threads.crash(is_written=chance.random() < 0.5)
                    await trio.sleep(0.3)
        except* (EngineDamaged, Fenced):
            pass
        servers[0] = None

    async def break_things(threads: Threads) -> None:
        while True:
            await trio.sleep(chance.random() * 0.1)
            kind = chance.choice([NoSpace("full"), Unknown("lost"), None])
            if kind is not None and not threads.commit_errors and not threads.late_errors:
                chance.choice([threads.commit_errors, threads.late_errors]).append(kind)
            # Nothing was written when a disk is full.
            threads.late_errors[:] = [e for e in threads.late_errors if not isinstance(e, NoSpace)]

    async def lives(is_done: trio.Event) -> None:
        while not is_done.is_set():
            threads = Threads()
            threads.delay_s = lambda: chance.random() * 0.01
            async with trio.open_nursery() as nursery:
                nursery.start_soon(break_things, threads)
                try:
                    await one_life(threads, is_done)
                except* NoSpace:
                    pass
                nursery.cancel_scope.cancel()

    clients = [Stubborn(number, chance) for number in range(1, 5)]

    async def main() -> None:
        is_done = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lives, is_done)
            async with trio.open_nursery() as working:
                for client in clients:
                    working.start_soon(client.work, servers, 25)
            is_done.set()
        async with running(storage[0]) as server:
            for client in clients:
                assert client.directory is not None
                reply: Any = await server.handle(
                    ReadDirectory(ino=client.directory),
                    b"",
                    client.mount.link,  # type: ignore[union-attr]
                )
                found = {entry.name: entry.inode.ino for entry in reply.entries}
                assert found == client.names, (client.number, found, client.names)

    simulated(main, seed)
    assert_sound(storage[0])


# ---------------------------------------------------------------- life


async def test_it_serves_over_a_network_and_stops_when_cancelled() -> None:
    engine, network = MemoryEngine(), MemoryNetwork()
    environment = environment_of(Threads(), network)
    async with trio.open_nursery() as nursery:
        address = await nursery.start(
            lambda task_status: run_meta_server(
                MetaConfig(listen="meta:1"), environment, engine=engine, task_status=task_status
            )
        )
        client: RpcClient[MetaReply] = RpcClient(environment, address, MetaReply)
        async with client:
            reply, _ = await client.call(GetAttr(ino=ROOT))
            assert isinstance(reply, InodeReply)
            with pytest.raises(FsError, match="ESTALE"):
                await client.call(GetAttr(ino=InodeId(99)))
            with pytest.raises(FsError, match="ESTALE"):
                await client.call(GetAttr(ino=InodeId(-1)))
            reply, _ = await client.call(OpenSession(client="a test"))
        nursery.cancel_scope.cancel()
    assert network.listeners == {}
    assert_sound(engine)


async def test_an_address_in_use_leaves_the_shard_with_its_owner() -> None:
    engine, network = MemoryEngine(), MemoryNetwork()
    environment = environment_of(Threads(), network)
    await network.listen("meta:1")
    before = rows_of(engine)
    with pytest.raises(OSError, match="in use"):
        await run_meta_server(MetaConfig(listen="meta:1"), environment, engine=engine)
    assert rows_of(engine) == before


@pytest.mark.expects_warnings
async def test_an_engine_that_breaks_ends_the_server_and_tells_clients_to_come_back() -> None:
    engine, threads = MemoryEngine(), Threads()
    caught: list[Exception] = []
    try:
        async with running(engine, threads) as server:
            mount = await Mount.arrive(server)
            engine.storage.power_cut()
            with pytest.raises(Disconnected, match="stops"):
                await mount.getattr(999_999)
            await trio.sleep_forever()
    except* EngineDamaged as group:
        caught = list(group.exceptions)
    assert caught


def _lmdb_environment(path: Path) -> tuple[Environment, str]:
    return system_environment(), f"unix:{path}/meta.sock"


async def test_over_lmdb_and_a_unix_socket(tmp_path: Path) -> None:
    """The real thing, twice over one store."""
    environment, address = _lmdb_environment(tmp_path)
    made: list[bytes] = []
    for life in range(2):
        engine = LmdbEngine(str(tmp_path / "store"))
        async with trio.open_nursery() as nursery:
            await nursery.start(
                lambda task_status, engine=engine: run_meta_server(  # type: ignore[misc]
                    MetaConfig(listen=address),
                    environment,
                    engine=engine,
                    task_status=task_status,
                )
            )
            client: RpcClient[MetaReply] = RpcClient(environment, address, MetaReply)
            async with client:
                mount = await Mount.arrive(_Remote(client))  # type: ignore[arg-type]
                for number in range(20):
                    made.append(b"%d-%02d" % (life, number))
                    assert (await mount.do(mount.create(made[-1]))).errno == 0
                reply: Any = await mount.ask(ReadDirectory(ino=ROOT))
                assert [entry.name for entry in reply.entries] == sorted(made)
            nursery.cancel_scope.cancel()
        assert_sound(engine)
        engine.close()


class _Remote:
    """Lets a `Mount` speak over a link."""

    def __init__(self, client: RpcClient[MetaReply]) -> None:
        self._client = client

    async def handle(self, request: Any, payload: bytes, link: object) -> Any:
        return (await self._client.call(request, payload))[0]
