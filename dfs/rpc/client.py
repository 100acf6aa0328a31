"""Calls to one address: many at once over one link, made when needed and again after it broke.

    link state    means                                        leaves when
    none          nothing is open                              a call → connecting
    connecting    one attempt, shared by all who call          success → open · failure → none
    open          packets go both ways                         broken, silent, nonsense → none

A broken link fails every call that waits on it with Disconnected; whether the work was done is for
the caller's op stream to find out (I8). Nothing is sent twice from here.
"""

from __future__ import annotations

import math
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import trio

from dfs.core.calls import PendingCalls, error_of
from dfs.core.messages import Failure
from dfs.core.packets import Packet, Payload, encode_packet
from dfs.errors import DfsError, Disconnected, RemoteProtocolError, UserError
from dfs.limits import CALL_TIMEOUT_S, CONNECT_TIMEOUT_S
from dfs.rpc.call_counts import CallCounts
from dfs.rpc.link import Link

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    import msgspec

    from dfs.environment import Environment

R = TypeVar("R")


class _Waiter:
    """A task that waits for its reply: one of `packet` and `error` is set when it wakes."""

    __slots__ = ("error", "name", "packet", "started_s", "task")

    def __init__(self, name: str) -> None:
        self.task = trio.lowlevel.current_task()
        self.name = name
        self.started_s = trio.current_time()
        self.packet: Packet[Any] | None = None
        self.error: DfsError | None = None


class _CallLink(Generic[R]):
    """One link and the calls that wait on it."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        address: str,
        reply_type: Any,
        before_close: Callable[[], Awaitable[None]],
    ) -> None:
        self._link: Link[R] = Link(stream, reply_type, before_close)
        self._address = address
        self._calls: PendingCalls[_Waiter] = PendingCalls()
        self._ending = f"the link to {address} was closed"
        self._watching_until_s = math.inf
        self._watch_sooner = trio.Event()

    async def run(self) -> None:
        """Carry the calls until the link ends; then every call that waits has failed."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._link.run_writer)
            nursery.start_soon(self._watch)
            error: DfsError = Disconnected(self._ending)
            try:
                error = await self._read_replies()
            finally:
                self._fail_all(error)
                await self._link.aclose()
                nursery.cancel_scope.cancel()
        assert len(self._calls) == 0

    @property
    def is_closed(self) -> bool:
        return self._link.is_closed

    async def call(self, request: msgspec.Struct, payload: Payload, timeout_s: float) -> Packet[R]:
        waiter = _Waiter(type(request).__name__)
        request_id = self._calls.start(waiter, waiter.started_s, timeout_s)
        try:
            self._link.send(encode_packet(request_id, request, payload))
        except BaseException as error:
            self._calls.forget(request_id)
            if isinstance(error, trio.BrokenResourceError | trio.ClosedResourceError):
                raise Disconnected(f"the link to {self._address} broke: {error}") from error
            raise
        if waiter.started_s + timeout_s < self._watching_until_s:
            self._watch_sooner.set()

        def give_up(_: object) -> trio.lowlevel.Abort:
            self._calls.forget(request_id)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(give_up)
        if waiter.error is not None:
            raise waiter.error
        assert waiter.packet is not None
        return waiter.packet

    async def _read_replies(self) -> DfsError:
        """Hand replies to those who wait. Returns why the link ended."""
        try:
            while (packet := await self._link.next_packet()) is not None:
                self._deliver(packet)
        except RemoteProtocolError as error:
            return RemoteProtocolError(f"{self._address}: {error}")
        except trio.BrokenResourceError as error:
            return Disconnected(f"the link to {self._address} broke: {error}")
        except trio.ClosedResourceError:
            return Disconnected(self._ending)
        place = "in the middle of a packet" if self._link.is_inside_packet else "by the other side"
        return Disconnected(f"the link to {self._address} was closed {place}")

    def _deliver(self, packet: Packet[R]) -> None:
        if packet.request_id == 0:
            # The other side says why it is about to close the link.
            reason = packet.message.message if isinstance(packet.message, Failure) else "no reason"
            raise RemoteProtocolError(f"it closes the link: {reason}")
        waiter = self._calls.answer(packet.request_id)
        if waiter is not None:
            waiter.packet = packet
            trio.lowlevel.reschedule(waiter.task)

    def _fail_all(self, error: DfsError) -> None:
        for waiter in self._calls.drain():
            self._fail(waiter, copy(error))

    def _fail(self, waiter: _Waiter, error: DfsError) -> None:
        waiter.error = error
        trio.lowlevel.reschedule(waiter.task)

    async def _watch(self) -> None:
        """Fail the calls that wait in silence; a link that was silent all along is closed."""
        while True:
            progress_s = self._link.bulk_progress_s
            expired = self._calls.expire(trio.current_time(), progress_s)
            # All of them first: closing the link ends this task, and nobody else knows them.
            for waiter in expired:
                self._fail(waiter, self._silence(waiter))
            if any(self._link.last_received_s <= waiter.started_s for waiter in expired):
                self._ending = f"{self._address} is silent: the link was closed"
                await self._link.aclose()
            self._watching_until_s = self._calls.next_expiry_s(progress_s)
            self._watch_sooner = trio.Event()
            with trio.move_on_at(self._watching_until_s):
                await self._watch_sooner.wait()

    def _silence(self, waiter: _Waiter) -> Disconnected:
        waited_s = trio.current_time() - waiter.started_s
        return Disconnected(f"{self._address} did not answer {waiter.name} within {waited_s:.1f} s")


class _Attempt:
    """One try to connect, shared by all calls that came meanwhile."""

    def __init__(self) -> None:
        self.is_over = trio.Event()
        self.link: _CallLink[Any] | None = None
        self.error: DfsError | None = None

    def end(self, link: _CallLink[Any] | None, error: DfsError | None) -> None:
        """Tell everyone who waits: exactly one of the two is given."""
        assert (link is None) != (error is None)
        assert not self.is_over.is_set()
        self.link, self.error = link, error
        self.is_over.set()


class RpcClient(Generic[R]):
    """Calls a server. Use as `async with client:`; its tasks end with the block.

    `before_close` is awaited before a link is closed: the other side cannot notice earlier. It sees
    the link end in order when this process dies, or is leaving (`is_leaving`), and else that it
    broke.
    """

    def __init__(
        self,
        environment: Environment,
        address: str,
        reply_type: Any,
        *,
        before_close: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
    ) -> None:
        assert address
        self._before_close = before_close
        self.is_leaving = False
        self.address = address
        self.call_counts = CallCounts()
        self._network = environment.network
        self._reply_type = reply_type
        self._link: _CallLink[R] | None = None
        self._attempt: _Attempt | None = None
        self._nursery: trio.Nursery | None = None
        self._nursery_manager = trio.open_nursery()
        self._is_closed = False

    @property
    def calls_sent(self) -> Counter[str]:
        """Requests so far, by the name of their class."""
        return self.call_counts.sent

    async def __aenter__(self) -> RpcClient[R]:
        assert self._nursery is None, "a client is used once"
        self._nursery = await self._nursery_manager.__aenter__()
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        assert self._nursery is not None
        self._is_closed = self.is_leaving = True
        if self._nursery.cancel_scope.cancel_called:
            # A task of ours died of a bug, and the block was cancelled because of it.
            return await self._nursery_manager.__aexit__(error_type, error, traceback)
        # The block's own error passes by the nursery, which would wrap it into a group or, being
        # cancelled, swallow the caller's cancellation. The shield: ending takes no time.
        self._nursery.cancel_scope.shield = True
        self._nursery.cancel_scope.cancel()
        await self._nursery_manager.__aexit__(None, None, None)
        return None

    async def call(
        self, request: msgspec.Struct, payload: Payload = b"", *, timeout_s: float = CALL_TIMEOUT_S
    ) -> tuple[R, bytes | memoryview]:
        """The reply and its payload.

        Raises the dfs.errors class that a Failure names; Disconnected (names the address) when
        there is no link, it broke, or no answer came for `timeout_s` while nothing large moved on
        the link; RemoteProtocolError when the other side sends nonsense; LocalProtocolError, with
        nothing sent, when the request is too large. Payload buffers must not change until the call
        returned, nor afterwards if it was cancelled or failed: they may still be on their way.
        """
        assert self._nursery is not None, "call inside `async with client:`"
        link = self._link
        if link is None or link.is_closed:
            link = await self._connected()
        name = type(request).__name__
        self.call_counts.sent[name] += 1
        sent_s = trio.current_time()
        packet = await link.call(request, payload, timeout_s)
        self.call_counts.note_answer(name, trio.current_time() - sent_s)
        if isinstance(packet.message, Failure):
            raise error_of(packet.message)
        return packet.message, packet.payload

    async def _connected(self) -> _CallLink[R]:
        """The open link, after the attempt that is under way or a new one."""
        assert self._nursery is not None
        if self._is_closed:
            raise self._closed_error()
        if self._attempt is None:
            self._attempt = _Attempt()
            self._nursery.start_soon(self._connect_and_run, self._attempt)
        attempt = self._attempt
        await attempt.is_over.wait()
        if attempt.error is not None:
            # Each caller gets its own: an exception carries the traceback of one task.
            raise copy(attempt.error)
        assert attempt.link is not None
        return attempt.link

    async def _connect_and_run(self, attempt: _Attempt) -> None:
        """Make the link, tell everyone who waits for it, and carry it until it ends."""
        assert attempt is self._attempt
        link: _CallLink[R] | None = None
        error: DfsError | None = self._closed_error()
        try:
            link, error = await self._connect(), None
        except (Disconnected, UserError) as failure:
            error = failure
        finally:
            self._link, self._attempt = link, None
            attempt.end(link, error)
        if link is not None:
            await link.run()

    def _closed_error(self) -> Disconnected:
        return Disconnected(f"the client of {self.address} was closed")

    async def _connect(self) -> _CallLink[R]:
        try:
            with trio.fail_after(CONNECT_TIMEOUT_S):
                stream = await self._network.connect(self.address)
        except trio.TooSlowError:
            problem = f"cannot reach {self.address}: no answer within {CONNECT_TIMEOUT_S:g} s"
            raise Disconnected(problem) from None
        except OSError as error:
            reason = error.strerror or str(error)
            raise Disconnected(f"cannot reach {self.address}: {reason}") from error
        before_close = partial(self._close, stream)
        return _CallLink(stream, self.address, self._reply_type, before_close)

    async def _close(self, stream: trio.abc.Stream) -> None:
        await self._before_close()
        if not self.is_leaving:
            self._network.abort(stream)
