"""Goal: what others want to change is forgotten before they hear so, and leases end before the
session can (I4). Method: a session whose server is the test; then whole clients."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from dfs.client.lease_holder import DATA_PATIENCE_SHARE, GOOD_SHARE, LeaseHolder
from dfs.client.record_cache import RecordCache
from dfs.core.messages import AnswerRecalls, Done, KeepAlive, KeepAliveReply, Recall
from dfs.errors import Disconnected, Fenced, FsError
from dfs.limits import KEEP_ALIVE_S
from dfs.types import ROOT, InodeId, SessionId
from tests.unit.client.rig import ROOT_USER, cluster

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from dfs.client.client import Client

pytestmark = pytest.mark.usefixtures("autojump_clock")

TTL_S = 30.0
FILE, LOOKED_AT = InodeId(11), InodeId(12)
LINK = SimpleNamespace(session_id=SessionId(1))


def fake_ops(settled: Callable[[], Awaitable[None]], *holds: InodeId) -> SimpleNamespace:
    """What the session's ops say: when nothing is owed, and what is to be held."""
    return SimpleNamespace(settled=settled, telling_holds=lambda: nullcontext(holds))


class Session:
    """Stands for MetaSession: notes what is sent and done, answers what the test says."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.records = RecordCache()
        self.cluster_map = SimpleNamespace(map_epoch=1)
        self.sent: list[Any] = []
        self.done: list[str] = []
        self.answers: dict[type, Any] = {KeepAlive: KeepAliveReply(), AnswerRecalls: Done()}
        self.answer_s = 0.0
        self.is_linked = True
        self.ops = fake_ops(self.settled)
        self._nursery = nursery
        self.holder = LeaseHolder(self, self.records)  # type: ignore[arg-type]

    async def settled(self) -> None:
        """Nothing is owed."""

    async def note(self, what: str) -> None:
        self.done.append(what)

    async def wait_link(self, deadline_s: float) -> Any:
        return LINK

    async def call(self, link: Any, request: Any) -> Any:
        self.sent.append(request)
        if isinstance(request, AnswerRecalls):
            self.done.append(f"answered, {self.knows_file()=}")
        await trio.sleep(self.answer_s)
        answer = self.answers[type(request)]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def knows_file(self) -> bool:
        return self.records.entry(ROOT, b"f") is not None

    def learn_file(self) -> None:
        with self.records.asking() as question:
            self.records.note_entry(question, ROOT, b"f", FILE)

    def is_linked_by(self, link: Any) -> bool:
        return self.is_linked

    def take_news(self, reply: KeepAliveReply) -> None:
        self.done.append("news")

    def start_soon(self, work: Callable[[], Awaitable[None]]) -> None:
        self._nursery.start_soon(work)

    def lose_session(self, link: Any, reason: str) -> None:
        self.done.append("lost")

    def break_link(self, link: Any, cause: str) -> None:
        self.done.append("broken")

    async def pause(self, about_s: float) -> None:
        self.done.append("paused")
        await trio.sleep(about_s)


async def run_for(session: Session, nursery: trio.Nursery, seconds: float) -> None:
    with trio.move_on_after(seconds):
        await session.holder.run()


async def test_leases_are_good_from_the_sending_of_what_was_answered() -> None:
    """Goal: the server heard of us then, or later. Method: an answer that takes three seconds."""
    async with trio.open_nursery() as nursery:
        session = Session(nursery)
        session.holder.begin(TTL_S, trio.current_time() - 1)
        opened_s = trio.current_time() - 1
        assert session.records.good_until_s == opened_s + GOOD_SHARE * TTL_S
        session.answer_s = 3
        sent_s = trio.current_time()
        await session.holder.ask_news(LINK)  # type: ignore[arg-type]
        assert session.records.good_until_s == sent_s + GOOD_SHARE * TTL_S


@pytest.mark.parametrize("answer", [Disconnected("gone"), Fenced("gone"), Done()])
async def test_what_is_not_answered_keeps_nothing_good(answer: object) -> None:
    """Goal: no word from the server, no time. Method: silence, an end, and nonsense."""
    async with trio.open_nursery() as nursery:
        session = Session(nursery)
        session.holder.begin(TTL_S, trio.current_time())
        good_until_s = session.records.good_until_s
        session.answers[KeepAlive] = answer
        await trio.sleep(1)
        await session.holder.ask_news(LINK)  # type: ignore[arg-type]
        assert session.records.good_until_s == good_until_s
        expected = {Disconnected: [], Fenced: ["lost"], Done: ["broken"]}
        assert session.done == expected[type(answer)]


async def test_an_answer_by_an_older_link_says_nothing() -> None:
    """Goal: what it recalled was forgotten with the link, and its time is over."""
    async with trio.open_nursery() as nursery:
        session = Session(nursery)
        session.holder.begin(TTL_S, trio.current_time())
        session.learn_file()
        session.answers[KeepAlive] = KeepAliveReply(recalls=(Recall(1, {ROOT: (b"f",)}),))
        good_until_s = session.records.good_until_s
        session.is_linked = False
        await trio.sleep(1)
        await session.holder.ask_news(LINK)  # type: ignore[arg-type]
        await trio.testing.wait_all_tasks_blocked()
        assert session.records.good_until_s == good_until_s
        assert session.done == []
        assert session.knows_file()


async def test_a_recall_is_answered_after_it_was_forgotten() -> None:
    async with trio.open_nursery() as nursery:
        session = Session(nursery)
        session.holder.begin(TTL_S, trio.current_time())
        session.learn_file()
        assert session.knows_file()
        session.answers[KeepAlive] = KeepAliveReply(
            recalls=(Recall(7, {ROOT: (b"f",)}), Recall(9, {FILE: ()}))
        )
        await session.holder.ask_news(LINK)  # type: ignore[arg-type]
        await trio.testing.wait_all_tasks_blocked()
        assert session.done == ["news", "answered, self.knows_file()=False"]
        assert session.sent[-1] == AnswerRecalls(session_id=LINK.session_id, numbers=(7, 9))


@pytest.mark.parametrize(("error", "done"), [(Disconnected("x"), "broken"), (Fenced("x"), "lost")])
async def test_an_answer_that_cannot_be_told_ends_the_link(error: Exception, done: str) -> None:
    """Goal: the change that waits is not left waiting: with the link all leases end."""
    async with trio.open_nursery() as nursery:
        session = Session(nursery)
        session.holder.begin(TTL_S, trio.current_time())
        session.answers[KeepAlive] = KeepAliveReply(recalls=(Recall(7, {ROOT: ()}),))
        session.answers[AnswerRecalls] = error
        await session.holder.ask_news(LINK)  # type: ignore[arg-type]
        await trio.testing.wait_all_tasks_blocked()
        assert session.done[-1] == done


@pytest.mark.parametrize(("ttl_s", "wait_s"), [(8.0, 2.0), (TTL_S, KEEP_ALIVE_S)])
async def test_a_keep_alive_waits_no_longer_than_a_quarter_of_the_session(
    ttl_s: float, wait_s: float
) -> None:
    async with trio.open_nursery() as nursery:
        session = Session(nursery)
        session.answer_s = 1
        session.holder.begin(ttl_s, trio.current_time())
        await run_for(session, nursery, 3.5)
        assert [request.wait_s for request in session.sent] == [wait_s] * 4
        assert session.done == ["news"] * 3, "the next follows the answer without a pause"
        await session.holder.ask_news(LINK)  # type: ignore[arg-type]
        assert session.sent[-1].wait_s == 0


async def test_a_failed_keep_alive_is_followed_by_a_pause() -> None:
    async with trio.open_nursery() as nursery:
        session = Session(nursery)
        session.answers[KeepAlive] = Disconnected("gone")
        session.holder.begin(TTL_S, trio.current_time())
        await run_for(session, nursery, 0.25)
        assert session.done == ["paused"] * 3


async def test_dropped_leases_travel_with_the_next_keep_alive() -> None:
    async with trio.open_nursery() as nursery:
        session = Session(nursery)
        session.holder.begin(TTL_S, trio.current_time())
        session.learn_file()
        session.records._drop_oldest(newest=FILE)
        await session.holder.ask_news(LINK)  # type: ignore[arg-type]
        await session.holder.ask_news(LINK)  # type: ignore[arg-type]
        assert [request.given_back for request in session.sent] == [(ROOT,), ()]


# ---------------------------------------------------------------- what is this client's alone


def told_to(session: Session, *recalls: Recall) -> None:
    """The next keep-alive brings these; what is made durable and forgotten is noted."""
    session.holder.begin(TTL_S, trio.current_time())
    session.answers[KeepAlive] = KeepAliveReply(recalls=recalls)
    session.ops = fake_ops(partial(session.note, "settled"))

    async def commit(inos: Collection[InodeId]) -> None:
        await session.note(f"committed {sorted(inos)}")

    async def forget(inos: Collection[InodeId] | None) -> None:
        await session.note(f"forgotten {inos}")

    session.holder.commit_data = commit
    session.holder.forget_elsewhere = forget


async def hear(session: Session) -> None:
    await session.holder.ask_news(LINK)  # type: ignore[arg-type]
    await trio.testing.wait_all_tasks_blocked()


async def test_a_recall_is_answered_when_nothing_is_owed() -> None:
    """Goal: ops first, then data of what was this client's alone, then whoever else remembers it.
    Method: recalls of what is alone, of what is not, and of what somebody only looks at."""
    async with trio.open_nursery() as nursery:
        session = Session(nursery)
        told_to(
            session,
            Recall(7, {FILE: ()}),
            Recall(8, {ROOT: (b"x",)}),
            Recall(9, {LOOKED_AT: ()}, is_shared=True),
        )
        session.learn_file()
        for ino in (FILE, LOOKED_AT):
            session.records.promise(ino)
        await hear(session)
        assert session.done == [
            "news",
            "settled",
            f"committed [{FILE}, {LOOKED_AT}]",
            f"forgotten {[FILE, ROOT]}",
            "answered, self.knows_file()=True",
        ]
        assert session.sent[-1].numbers == (7, 8, 9)


async def test_what_somebody_looks_at_is_not_forgotten() -> None:
    async with trio.open_nursery() as nursery:
        session = Session(nursery)
        session.learn_file()
        told_to(session, Recall(7, {ROOT: ()}, is_shared=True))
        await hear(session)
        assert session.done == [
            "news",
            "settled",
            "committed []",
            "answered, self.knows_file()=True",
        ]


async def test_data_that_cannot_be_committed_is_waited_for_no_longer_than_its_share() -> None:
    """Goal: the server would fence the session, and with it lose what can still be committed."""
    async with trio.open_nursery() as nursery:
        session = Session(nursery)
        told_to(session, Recall(7, {FILE: ()}))

        async def never(_: Collection[InodeId] | None) -> None:
            await trio.sleep_forever()

        session.holder.commit_data = never
        await session.holder.ask_news(LINK)  # type: ignore[arg-type]
        await trio.sleep(DATA_PATIENCE_SHARE * TTL_S - 0.1)
        assert session.done[-1] == "settled"
        await trio.sleep(0.2)
        assert session.done[-1].startswith("answered")


async def test_ops_that_cannot_be_made_durable_are_not_answered_for() -> None:
    """Goal: the link ends, and who waits goes on only with what is owed, or without the session."""
    async with trio.open_nursery() as nursery:
        session = Session(nursery)
        told_to(session, Recall(7, {FILE: ()}))

        async def fail() -> None:
            raise Disconnected("no answer")

        session.ops = fake_ops(fail)
        await hear(session)
        assert session.done == ["news", "broken"]
        assert not any(isinstance(request, AnswerRecalls) for request in session.sent)


async def test_what_is_open_is_told_with_what_gives_its_lease_back() -> None:
    """Goal: the server hears of a hold before it hears that nothing is leased any more."""
    async with trio.open_nursery() as nursery:
        session = Session(nursery)
        told_to(session, Recall(7, {FILE: ()}))
        session.ops = fake_ops(partial(session.note, "settled"), FILE)
        await hear(session)
        assert [request.holds for request in session.sent] == [(FILE,), (FILE,)]
        assert [type(request) for request in session.sent] == [KeepAlive, AnswerRecalls]


async def test_what_is_given_back_is_forgotten_elsewhere_first() -> None:
    async with trio.open_nursery() as nursery:
        session = Session(nursery)
        told_to(session)
        session.learn_file()
        session.records._drop_oldest(newest=FILE)
        assert await session.holder.take_given_back() == (ROOT,)
        assert session.done == [f"forgotten {[ROOT]}"]
        assert await session.holder.take_given_back() == ()
        assert session.done == [f"forgotten {[ROOT]}"]


# ---------------------------------------------------------------- whole clients


async def remember(client: Client, name: bytes) -> None:
    """Look the name up; again, it is answered from memory."""
    await client.lookup(ROOT, name)
    count = client.meta.calls_sent["Lookup"]
    await client.lookup(ROOT, name)
    assert client.meta.calls_sent["Lookup"] == count


async def test_another_clients_change_takes_messages_and_not_seconds() -> None:
    async with cluster(chunk_count=0) as rig, rig.client() as client, rig.client() as other:
        await other.mkdir(ROOT, b"d", 0o755, ROOT_USER)
        await remember(client, b"d")
        began_s = trio.current_time()
        await other.rmdir(ROOT, b"d", ROOT_USER)
        assert trio.current_time() - began_s < KEEP_ALIVE_S / 10
        assert client.meta.calls_sent["AnswerRecalls"] == 1
        with pytest.raises(FsError, match="ENOENT"):
            await client.lookup(ROOT, b"d")


async def test_a_client_that_left_is_waited_for_no_longer() -> None:
    async with cluster(chunk_count=0) as rig, rig.client() as other:
        await other.mkdir(ROOT, b"d", 0o755, ROOT_USER)
        async with rig.client() as client:
            await remember(client, b"d")
        began_s = trio.current_time()
        await other.rmdir(ROOT, b"d", ROOT_USER)
        assert trio.current_time() - began_s < 1
