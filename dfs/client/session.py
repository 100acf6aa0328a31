"""The link to a metadata server, and the client's session there.

    link       means                                      leaves when
    none       OpenSession is tried at every address      an address answers → linked
    linked     requests go out                            broken → none · fenced → none, no session

Reads are asked again over a new link until they are answered; ops go through `OpStream`, which
sends unanswered ones again (I8). An expired session takes its ops and its dirty data with it, as a
crash would (I7); a new one follows, so the client stays usable. It knows nothing of files.
"""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
import trio

from dfs.client.lease import NOTHING
from dfs.client.lease_holder import LeaseHolder
from dfs.client.op_stream import OpStream
from dfs.client.record_cache import RecordCache
from dfs.core.messages import (
    CloseSession,
    Done,
    InodeRangeReply,
    KeepAliveReply,
    MetaReply,
    MetaRequest,
    Open,
    OpenReply,
    OpenSession,
    SessionReply,
    TakeInodeRange,
)
from dfs.errors import (
    DfsError,
    Disconnected,
    Fenced,
    FsError,
    RemoteProtocolError,
    RetryableError,
)
from dfs.limits import (
    CALL_TIMEOUT_S,
    INODE_RANGE_COUNT,
    NAMES_CACHED_MAX,
    RECORDS_CACHED_MAX,
)
from dfs.rpc.call_counts import CallCounts
from dfs.rpc.client import RpcClient
from dfs.types import ClusterMap, InodeId, SessionId, VolumeSettings

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Awaitable, Callable, Sequence

    from dfs.config import ClientConfig
    from dfs.environment import Environment

logger = logging.getLogger(__name__)

R = TypeVar("R", bound=msgspec.Struct)

RETRY_PAUSE_S: Final = 0.1
RETRY_PAUSE_S_MAX: Final = 1.0
_NO_SESSION = SessionId(0)


@dataclass(eq=False, frozen=True)
class MetaLink:
    """A working link, on which the session was opened."""

    rpc: RpcClient[MetaReply]
    session_id: SessionId

    @property
    def address(self) -> str:
        return self.rpc.address


class MetaSession:
    """Asks the metadata service on the client's behalf. `run` carries it.

    `held` gives the inodes that this client holds open; `on_lost` hears, before anything else can
    happen, that the session and all that it owed is gone; `on_unclaimed` hears of a held inode that
    an op created whose caller had left.
    """

    settings: VolumeSettings
    cluster_map: ClusterMap

    def __init__(
        self,
        environment: Environment,
        addresses: Sequence[str],
        config: ClientConfig,
        *,
        held: Callable[[], list[InodeId]],
        on_lost: Callable[[str], None],
        on_unclaimed: Callable[[InodeId], None],
    ) -> None:
        assert addresses
        self._environment = environment
        self.fault_point = environment.fault_point
        self._config = config
        self._held = held
        self._on_lost = on_lost
        self.records = RecordCache(records_max=RECORDS_CACHED_MAX, names_max=NAMES_CACHED_MAX)
        self.leases = LeaseHolder(self, self.records)
        self._rpcs = [
            RpcClient[MetaReply](environment, a, MetaReply, before_close=self.leases.forget_all)
            for a in addresses
        ]
        self._causes: dict[str, str] = {}
        """Address → why it did not answer, of the newest attempt."""
        self._link: MetaLink | None = None
        self._linked = trio.Event()
        self._broken = trio.Event()
        self._nursery: trio.Nursery | None = None
        self._next_ino = self._end_ino = 0
        self._spare_range: tuple[int, int] | None = None
        self._range_lock = trio.Lock()
        self.session_id = _NO_SESSION
        self._opening = 0
        self.delete_number = 0
        """Uploads that begin under it are later than every deletion it counts (I1)."""
        self.ops = OpStream(self, on_unclaimed, is_synchronous=config.is_synchronous)

    @property
    def call_counts(self) -> CallCounts:
        """Of all metadata servers together, as of now."""
        counts = CallCounts()
        for rpc in self._rpcs:
            counts.add(rpc.call_counts)
        return counts

    @property
    def calls_sent(self) -> Counter[str]:
        """Requests so far, by the name of their class."""
        return self.call_counts.sent

    @property
    def patience_s(self) -> float:
        return self._config.patience_s

    # ------------------------------------------------------------ life

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Open the session, say so, and carry it until cancelled.

        Raises, before it said so, why there is no session: Disconnected, WrongCluster, …
        """
        async with AsyncExitStack() as stack:
            for rpc in self._rpcs:
                await stack.enter_async_context(rpc)
            await self._connect(trio.current_time() + self._config.connect_patience_s)
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._keep_linked)
                nursery.start_soon(self.leases.run)
                nursery.start_soon(self.ops.run)
                task_status.started()

    async def close(self) -> None:
        """Tell the server that everything is let go. Says nothing if there is no link."""
        link = self._link
        if link is None:
            return
        # Nothing else may go out: it would find the session gone.
        self._link = None
        self._linked = trio.Event()
        self.records.forget_all()
        link.rpc.is_leaving = True
        try:
            reply, _ = await link.rpc.call(CloseSession(session_id=link.session_id))
            _expect(reply, Done, link)
        except DfsError as error:
            logger.info("the session was left without a word: %s", error)

    async def _keep_linked(self) -> None:
        while True:
            await self._broken.wait()
            await self._connect(deadline_s=None)

    async def _connect(self, deadline_s: float | None) -> None:
        """Make a link. Without a deadline it tries on; with one, what cannot heal is raised."""
        pause_s = RETRY_PAUSE_S
        while not await self._try_addresses(is_first=deadline_s is not None):
            if deadline_s is not None and trio.current_time() >= deadline_s:
                raise self.trouble()
            await self.pause(pause_s)
            pause_s = min(2 * pause_s, RETRY_PAUSE_S_MAX)

    async def _try_addresses(self, *, is_first: bool) -> bool:
        for rpc in self._rpcs:
            try:
                await self._open_session(rpc)
            except Fenced as error:
                self._forget_session(f"{rpc.address}: {error}")
                self._causes[rpc.address] = str(error)
            except DfsError as error:
                if is_first and not error.is_retryable:
                    raise
                self._causes[rpc.address] = str(error)
            else:
                return True
        return False

    async def _open_session(self, rpc: RpcClient[MetaReply]) -> None:
        is_return = self.session_id != _NO_SESSION
        await self.leases.forget_all()
        self.ops.forget_releases()
        held = self._held() + self.ops.journal.held_creations()
        self._opening += 1
        request = OpenSession(
            client=self._config.name,
            cluster_id=self.settings.cluster_id if is_return else self._config.cluster_id,
            session_id=self.session_id,
            held=tuple(sorted(set(held))) if is_return else (),
            opening=self._opening,
            wants_leases=True,
            exclusive=tuple(sorted({*self.records.owed, *self.records.promised}))
            if is_return
            else (),
        )
        sent_s = trio.current_time()
        reply, _ = await rpc.call(request)
        if not isinstance(reply, SessionReply):
            raise RemoteProtocolError(f"{rpc.address} answered OpenSession with {reply!r:.80}")
        if is_return and not self.ops.journal.knows(reply.last_op):
            raise Fenced(f"the server's last op {reply.last_op} does not fit this session")
        await self.fault_point("the session is open, no op is sent again")
        link = MetaLink(rpc, reply.session_id)
        if not is_return:
            self._begin(reply)
            await self._hold_again(link, held)
        self._take_map(reply.cluster_map)
        self.delete_number = reply.delete_number
        self.leases.begin(reply.session_ttl_s, sent_s)
        self._link = link
        self._causes.clear()
        self._broken = trio.Event()
        self._linked.set()

    def _begin(self, reply: SessionReply) -> None:
        """A new session: nothing of an older one is left."""
        assert len(self.ops.journal) == 0 or self.ops.journal.answered_below == 1
        assert reply.session_id != _NO_SESSION
        self.session_id = reply.session_id
        self.settings = reply.settings
        self._next_ino, self._end_ino = reply.first_ino, reply.end_ino
        self._spare_range = None

    async def _hold_again(self, link: MetaLink, held: list[InodeId]) -> None:
        """Hold in a new session what applications have open; what is gone meanwhile stays gone."""
        for ino in held:
            try:
                reply, _ = await link.rpc.call(Open(session_id=link.session_id, ino=ino))
                _expect(reply, OpenReply, link)
            except FsError as error:
                logger.warning("inode %d was open and is gone: %s", ino, error)

    # ------------------------------------------------------------ requests

    async def ask(self, request: MetaRequest, reply_type: type[R]) -> R:
        """The answer to a request that may be sent twice; stamped with the session where it has
        one. What was done here to the inode that it names is told first.

        Raises FsError and what else the server answers; Disconnected when no server answered for
        `patience_s`, naming addresses and causes.
        """
        deadline_s = trio.current_time() + self.patience_s
        while True:
            if self.records.is_owed(getattr(request, "ino", NOTHING)):
                await self.ops.settled()
            link = await self.wait_link(deadline_s)
            try:
                return _expect(await self.call(link, _stamped(request, link)), reply_type, link)
            except Fenced as error:
                self.lose_session(link, str(error))
            except (RetryableError, RemoteProtocolError) as error:
                if trio.current_time() >= deadline_s:
                    raise
                if not isinstance(error, Disconnected):
                    await self.pause(RETRY_PAUSE_S)

    async def call(self, link: MetaLink, request: MetaRequest) -> MetaReply:
        """One request over this link, once."""
        try:
            reply, _ = await link.rpc.call(request, timeout_s=CALL_TIMEOUT_S)
        except (Disconnected, RemoteProtocolError) as error:
            self.break_link(link, str(error))
            raise
        return reply

    async def wait_link(self, deadline_s: float) -> MetaLink:
        """The working link. Raises Disconnected at the deadline."""
        while self._link is None:
            with trio.move_on_at(deadline_s):
                await self._linked.wait()
            if trio.current_time() >= deadline_s and not self._linked.is_set():
                raise self.trouble()
        return self._link

    def start_soon(self, work: Callable[[], Awaitable[None]]) -> None:
        """Work that ends with the session's tasks."""
        assert self._nursery is not None
        self._nursery.start_soon(work)

    def trouble(self) -> Disconnected:
        """Why there is no link, for people: every address with its cause."""
        causes = "; ".join(f"{address}: {cause}" for address, cause in self._causes.items())
        return Disconnected(f"no metadata server answers ({causes or 'none was tried yet'})")

    async def pause(self, about_s: float) -> None:
        """Wait, each client for a different time."""
        await trio.sleep(about_s * (0.5 + self._environment.random.random()))

    def break_link(self, link: MetaLink, cause: str) -> None:
        """This link is of no use any more: a new one is made."""
        if self._link is link:
            logger.warning("lost the metadata server: %s", cause)
            self._causes[link.address] = cause
            self._unlink()

    @property
    def is_linked(self) -> bool:
        return self._link is not None

    def is_linked_by(self, link: MetaLink) -> bool:
        return self._link is link

    def _unlink(self) -> None:
        self.records.forget_all()
        self._link = None
        self._linked = trio.Event()
        self._broken.set()

    def lose_session(self, link: MetaLink, reason: str) -> None:
        """The session of this link is gone, with all that it owed (I7)."""
        if self._link is link:
            self._unlink()
            self._forget_session(f"{link.address}: {reason}")

    def _forget_session(self, reason: str) -> None:
        if self.session_id == _NO_SESSION:
            return
        logger.warning("session %d is lost: %s", self.session_id, reason)
        self.session_id = _NO_SESSION
        self.ops.fail_all(reason)
        self._on_lost(reason)

    # ------------------------------------------------------------ the map

    async def refresh_map(self) -> None:
        """Learn a newer cluster map if there is one."""
        link = self._link
        if link is not None:
            await self.leases.ask_news(link)

    def take_news(self, reply: KeepAliveReply) -> None:
        """What a keep-alive brought."""
        self.delete_number = max(self.delete_number, reply.delete_number)
        if reply.cluster_map is not None:
            self._take_map(reply.cluster_map)

    def _take_map(self, cluster_map: ClusterMap) -> None:
        known = getattr(self, "cluster_map", None)
        if known is None or known.map_epoch < cluster_map.map_epoch:
            self.cluster_map = cluster_map

    # ------------------------------------------------------------ inode numbers

    async def take_ino(self) -> InodeId:
        """A number that no inode ever had. There is no await between its choice and the return."""
        while self._next_ino >= self._end_ino:
            await self._take_range()
        ino = InodeId(self._next_ino)
        self._next_ino += 1
        is_low = self._end_ino - self._next_ino < INODE_RANGE_COUNT // 4
        if is_low and self._spare_range is None and not self._range_lock.locked():
            self.start_soon(self._fetch_ahead)
        return ino

    async def _take_range(self) -> None:
        async with self._range_lock:
            if self._next_ino < self._end_ino:
                return
            if self._spare_range is None:
                await self._fetch_range()
            if self._spare_range is not None:
                self._next_ino, self._end_ino = self._spare_range
                self._spare_range = None

    async def _fetch_ahead(self) -> None:
        if self._range_lock.locked():
            return
        async with self._range_lock:
            try:
                await self._fetch_range()
            except DfsError as error:
                logger.info("no inode numbers ahead of need: %s", error)

    async def _fetch_range(self) -> None:
        session_id = self.session_id
        reply = await self.ask(TakeInodeRange(session_id=session_id), InodeRangeReply)
        if session_id == self.session_id:
            assert reply.first_ino < reply.end_ino
            self._spare_range = (reply.first_ino, reply.end_ino)


def _stamped(request: MetaRequest, link: MetaLink) -> MetaRequest:
    """The request under the link's session, where it names one."""
    named: Any = getattr(request, "session_id", None)
    if named is None or named == link.session_id:
        return request
    return msgspec.structs.replace(request, session_id=link.session_id)


def _expect(reply: MetaReply, reply_type: type[R], link: MetaLink) -> R:
    if isinstance(reply, reply_type):
        return reply
    name = type(reply).__name__
    raise RemoteProtocolError(f"{link.address} answered {name} instead of {reply_type.__name__}")
