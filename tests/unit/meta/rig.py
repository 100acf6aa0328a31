"""A metadata server without sockets and threads: requests go straight to its handler.

`Threads` stands for the worker threads: it can hold back commits, delay reads, and fail either.
"""

from __future__ import annotations

import random
import stat
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import trio
import trio.testing

from dfs.config import MetaConfig
from dfs.core.messages import (
    AnswerRecalls,
    ApplyOps,
    ApplyReply,
    GetAttr,
    InodeReply,
    KeepAlive,
    KeepAliveReply,
    Lookup,
    NumberedOp,
    Open,
    OpenSession,
    OpOutcome,
    Recall,
    SessionReply,
)
from dfs.core.namespace.invariants import RecordChecker
from dfs.core.namespace.ops import CommitData, Create, Mkdir, Piece, SetAttr, Unlink
from dfs.engine.api import EngineDamaged
from dfs.environment import Environment
from dfs.errors import DfsError
from dfs.limits import BLOCK_ID_BYTES
from dfs.meta.server import MetaServer, start_meta_server
from dfs.types import ROOT, BlockId, Credentials, InodeId, MapEpoch, OpNumber, SessionId

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from dfs.core.leases import Leases
    from dfs.core.messages import MetaRequest
    from dfs.core.namespace.ops import ClientOp
    from dfs.engine.api import Engine

T = TypeVar("T")

USER = Credentials(0, 0)
NOW_NS = 1_700_000_000_000_000_000
FILE_MODE = stat.S_IFREG | 0o644


@dataclass(frozen=True)
class Link:
    """Stands for a connection."""

    number: int


class Threads:
    """Runs blocking functions at once, unless told to be slow. No thread is involved."""

    def __init__(self) -> None:
        self.is_open = trio.Event()
        self.is_open.set()
        self.delay_s: Callable[[], float] | None = None
        self.commit_count = 0
        self.read_count = 0
        self.commit_errors: list[BaseException | None] = []
        """Raised by the next commits instead of writing; None lets one pass."""
        self.late_errors: list[BaseException] = []
        """Raised by the next commits after writing."""

    def hold_commits(self) -> None:
        """From now on no commit reaches the engine."""
        self.is_open = trio.Event()

    def release_commits(self) -> None:
        self.is_open.set()

    def crash(self, *, is_written: bool) -> None:
        """The server's process ends in the next commit, or in the one held back: before or after
        it is on disk."""
        error = EngineDamaged("the process was killed")
        (self.late_errors if is_written else self.commit_errors).append(error)
        self.is_open.set()

    async def __call__(self, function: Callable[..., T], /, *args: Any) -> T:
        is_commit = getattr(function, "__name__", "") == "commit"
        await self._pause()
        if is_commit:
            await self.is_open.wait()
            self.commit_count += 1
            error = self.commit_errors.pop(0) if self.commit_errors else None
            if error is not None:
                raise error
        else:
            self.read_count += 1
        result = function(*args)
        if is_commit and self.late_errors:
            raise self.late_errors.pop(0)
        await self._pause()
        return result

    async def _pause(self) -> None:
        if self.delay_s is None:
            await trio.lowlevel.checkpoint()
        else:
            await trio.sleep(self.delay_s())


def environment_of(threads: Threads, network: Any = None, seed: int = 1) -> Environment:
    return Environment(
        network=network, run_blocking=threads, now_ns=lambda: NOW_NS, random=random.Random(seed)
    )


def config_of(**changes: Any) -> MetaConfig:
    return MetaConfig(listen="meta:1", **changes)


@asynccontextmanager
async def running(
    engine: Engine, threads: Threads | None = None, *, network: Any = None, **changes: Any
) -> AsyncIterator[MetaServer]:
    """A server that answers `handle` inside the block and is cancelled at its end."""
    environment = environment_of(threads or Threads(), network)
    server = await start_meta_server(config_of(**changes), environment, engine)
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: server.run(None, task_status=task_status))
        yield server
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def doomed(engine: Engine, threads: Threads) -> AsyncIterator[MetaServer]:
    """As `running`, for a server that `threads.crash` ends: the block is cancelled then."""
    is_crashed = False
    try:
        async with running(engine, threads) as server:
            yield server
            await trio.sleep_forever()
    except* EngineDamaged:
        is_crashed = True
    assert is_crashed


class Background:
    """A call that runs beside the test: `result` or `error` is set once it ended."""

    def __init__(self, nursery: trio.Nursery, call: Callable[[], Awaitable[Any]]) -> None:
        self.result: Any = None
        self.error: DfsError | None = None
        self.is_over = False
        nursery.start_soon(self._run, call)

    async def _run(self, call: Callable[[], Awaitable[Any]]) -> None:
        try:
            self.result = await call()
        except DfsError as error:
            self.error = error
        self.is_over = True


async def settle() -> None:
    """Everything that can go on without the test has gone on."""
    await trio.testing.wait_all_tasks_blocked()


@dataclass
class Mount:
    """A client of one session: makes ops, numbers them, sends them."""

    server: MetaServer
    link: Link
    session_id: SessionId
    next_ino: int
    end_ino: int
    next_number: int = 1
    answered_below: int = 1
    sent: dict[int, NumberedOp] = field(default_factory=dict)
    told_exclusive: list[InodeId] = field(default_factory=list)
    """By the newest answer to ops."""

    @classmethod
    async def arrive(
        cls, server: MetaServer, link_number: int = 1, *, wants_leases: bool = False
    ) -> Mount:
        link = Link(link_number)
        request = OpenSession(client=f"mount {link_number}", wants_leases=wants_leases)
        reply = await server.handle(request, b"", link)
        assert isinstance(reply, SessionReply)
        return cls(server, link, reply.session_id, reply.first_ino, reply.end_ino)

    async def ask(self, request: MetaRequest) -> Any:
        return await self.server.handle(request, b"", self.link)

    async def come_back(
        self,
        server: MetaServer,
        link_number: int,
        held: tuple[int, ...] = (),
        *,
        wants_leases: bool = False,
        exclusive: tuple[InodeId, ...] = (),
    ) -> SessionReply:
        """Open the session again, on another link or at another server."""
        self.server, self.link = server, Link(link_number)
        reply = await self.ask(
            OpenSession(
                client="again",
                session_id=self.session_id,
                held=tuple(InodeId(ino) for ino in held),
                wants_leases=wants_leases,
                exclusive=exclusive,
            )
        )
        assert isinstance(reply, SessionReply)
        return reply

    def close_link(self) -> None:
        """End the link in order, as a client does that has forgotten its leases."""
        self.server._sessions.link_ended(self.link, True)

    def ino(self) -> InodeId:
        """A number of this session's own."""
        assert self.next_ino < self.end_ino
        self.next_ino += 1
        return InodeId(self.next_ino - 1)

    def number(
        self, op: ClientOp, *, has_hold: bool = False, is_foreseen: bool = False
    ) -> NumberedOp:
        """Give an op its place in the stream."""
        numbered = NumberedOp(OpNumber(self.next_number), op, has_hold, is_foreseen)
        self.sent[self.next_number] = numbered
        self.next_number += 1
        return numbered

    async def send(
        self, *ops: NumberedOp, given_back: tuple[InodeId, ...] = ()
    ) -> tuple[OpOutcome, ...]:
        """Send numbered ops; does not count them as answered."""
        reply = await self.ask(
            ApplyOps(
                session_id=self.session_id,
                ops=ops,
                answered_below=OpNumber(self.answered_below),
                given_back=given_back,
            )
        )
        assert isinstance(reply, ApplyReply)
        assert len(reply.outcomes) == len(ops)
        self.told_exclusive = [inode.ino for inode in reply.exclusive]
        return reply.outcomes

    async def do(
        self, op: ClientOp, *, has_hold: bool = False, is_foreseen: bool = False
    ) -> OpOutcome:
        """Send one op and have its answer."""
        numbered = self.number(op, has_hold=has_hold, is_foreseen=is_foreseen)
        [outcome] = await self.send(numbered)
        self.answered_below = max(self.answered_below, numbered.number + 1)
        return outcome

    async def keep_alive(self) -> Any:
        return await self.ask(KeepAlive(session_id=self.session_id, map_epoch=MapEpoch(0)))

    async def give_back(self, *inos: InodeId) -> None:
        """Say that nothing of these is remembered any more, nor changed here alone."""
        request = KeepAlive(session_id=self.session_id, map_epoch=MapEpoch(0), given_back=inos)
        await self.ask(request)

    async def open(self, ino: int) -> Any:
        return await self.ask(Open(session_id=self.session_id, ino=InodeId(ino)))

    async def getattr(self, ino: int) -> Any:
        return (await self.ask(GetAttr(ino=InodeId(ino)))).inode

    # ------------------------------------------------------------ leases

    async def lookup(self, name: bytes, parent: int = ROOT) -> InodeReply:
        """As a client that remembers what it may."""
        request = Lookup(session_id=self.session_id, parent=InodeId(parent), name=name)
        reply = await self.ask(request)
        assert isinstance(reply, InodeReply)
        return reply

    async def remember(self, ino: int) -> bool:
        """Ask for the attributes. Whether they are leased."""
        reply = await self.ask(GetAttr(session_id=self.session_id, ino=InodeId(ino)))
        assert isinstance(reply, InodeReply)
        return reply.is_leased

    async def hear_recalls(self, wait_s: float = 0) -> tuple[Recall, ...]:
        reply = await self.ask(
            KeepAlive(session_id=self.session_id, map_epoch=MapEpoch(0), wait_s=wait_s)
        )
        assert isinstance(reply, KeepAliveReply)
        return reply.recalls

    async def answer(self, *recalls: Recall) -> None:
        """Say that this was forgotten."""
        numbers = tuple(recall.number for recall in recalls)
        await self.ask(AnswerRecalls(session_id=self.session_id, numbers=numbers))

    # ------------------------------------------------------------ ops

    def create(self, name: bytes, *, parent: int = ROOT, is_exclusive: bool = True) -> Create:
        return Create(
            credentials=USER,
            now_ns=NOW_NS,
            parent=InodeId(parent),
            name=name,
            ino=self.ino(),
            mode=FILE_MODE,
            is_exclusive=is_exclusive,
        )

    def mkdir(self, name: bytes, *, parent: int = ROOT) -> Mkdir:
        return Mkdir(
            credentials=USER,
            now_ns=NOW_NS,
            parent=InodeId(parent),
            name=name,
            ino=self.ino(),
            mode=0o755,
        )


def errnos(outcomes: tuple[OpOutcome, ...]) -> list[int]:
    return [outcome.errno for outcome in outcomes]


def leases_of(server: MetaServer) -> Leases:
    return server._sessions._recalls.leases


def unlink(name: bytes, *, parent: int = ROOT) -> Unlink:
    return Unlink(credentials=USER, now_ns=NOW_NS, parent=InodeId(parent), name=name)


def chmod(ino: int, mode: int = 0o700) -> SetAttr:
    return SetAttr(credentials=USER, now_ns=NOW_NS + 1, ino=InodeId(ino), mode=mode)


def block_id(number: int) -> BlockId:
    return BlockId(number.to_bytes(BLOCK_ID_BYTES, "big"))


def write_block(
    ino: int, number: int, *, offset: int = 0, length: int = 65536, since: int | None = None
) -> CommitData:
    """Makes block `number` the content at `offset`."""
    piece = Piece(offset=offset, length=length, block_id=block_id(number), block_length=length)
    return CommitData(
        credentials=USER, now_ns=NOW_NS, ino=InodeId(ino), pieces=(piece,), uploaded_since=since
    )


def rows_of(engine: Engine) -> dict[bytes, bytes]:
    """Everything that is committed."""
    return {key: value for page in engine.export(b"\0", b"\xff\xff\xff\xff") for key, value in page}


def assert_sound(engine: Engine, held: set[InodeId] | None = None) -> None:
    """Every invariant of the records holds."""
    checker = RecordChecker()
    for key, value in sorted(rows_of(engine).items()):
        checker.add(key, value)
    found = [finding for finding in checker.finish(held or set()) if finding.is_error]
    assert not found, found
