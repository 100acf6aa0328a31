"""Goal: an answer from memory is the server's of this moment, or there is none (I4).
Method: questions, recalls and own ops in every order; no server. Every test has virtual time."""

from __future__ import annotations

import math
import stat
from typing import TYPE_CHECKING

import pytest
import trio
from msgspec.structs import replace

from dfs.client import record_cache as module
from dfs.client.lease import NOTHING
from dfs.client.record_cache import RecordCache
from dfs.core.messages import Recall
from dfs.core.namespace.ops import Create, Link, Rename, SetAttr, Unlink
from dfs.core.namespace.records import Inode
from dfs.types import Credentials, InodeId

if TYPE_CHECKING:
    from collections.abc import Callable

    from dfs.client.record_cache import Question
    from dfs.core.namespace.ops import ClientOp

pytestmark = pytest.mark.usefixtures("autojump_clock")

DIRECTORY, FILE, OTHER = InodeId(10), InodeId(11), InodeId(12)
WHO = {"credentials": Credentials(0, 0), "now_ns": 0}
UNLINK = Unlink(**WHO, parent=DIRECTORY, name=b"a")


def inode(ino: InodeId, size: int = 0) -> Inode:
    mode = stat.S_IFREG | 0o644
    return Inode(
        ino=ino,
        mode=mode,
        uid=0,
        gid=0,
        rdev=0,
        nlink=1,
        size=size,
        atime_ns=0,
        mtime_ns=0,
        ctime_ns=0,
        btime_ns=0,
        parent=InodeId(0),
    )


def cache(**bounds: int) -> RecordCache:
    """Good for ever."""
    records = RecordCache(**bounds)
    records.good_until_s = math.inf
    return records


def learn(records: RecordCache, *inos: InodeId, **entries: InodeId) -> None:
    """Inodes, and entries of DIRECTORY, as an answer brings them."""
    with records.asking() as question:
        for ino in inos:
            records.note_inode(question, inode(ino))
        for name, ino in entries.items():
            records.note_entry(question, DIRECTORY, name.encode(), ino)


def recall(ino: InodeId, *names: bytes) -> Recall:
    return Recall(1, {ino: names})


def note_all(records: RecordCache, question: Question) -> None:
    """An answer that leases the file, and the name that leads to it."""
    records.note_inode(question, inode(FILE))
    records.note_entry(question, DIRECTORY, b"a", FILE)


def knows(records: RecordCache) -> tuple[bool, bool]:
    """Whether the file's attributes are known, and the name that leads to it."""
    return records.inode(FILE) is not None, records.entry(DIRECTORY, b"a") is not None


# ---------------------------------------------------------------- answers from memory


async def test_what_was_leased_is_answered_from_memory() -> None:
    records = cache()
    assert records.inode(FILE) is None
    assert records.entry(DIRECTORY, b"a") is None
    learn(records, FILE, a=FILE, gone=NOTHING)
    assert records.inode(FILE) == inode(FILE)
    assert records.entry(DIRECTORY, b"a") == FILE
    assert records.entry(DIRECTORY, b"gone") == NOTHING
    assert records.entry(DIRECTORY, b"other") is None
    assert records.inode(DIRECTORY) is None, "only its entries are known"


async def test_nothing_is_answered_when_the_session_may_have_ended() -> None:
    """Goal: good until that moment, again after a later sign of life. Method: the virtual clock."""
    records = RecordCache()
    learn(records, FILE, a=FILE)
    assert knows(records) == (False, False), "no sign of life was answered yet"
    records.good_until_s = trio.current_time() + 10
    await trio.sleep(9.9)
    assert knows(records) == (True, True)
    await trio.sleep(0.1)
    assert knows(records) == (False, False)
    records.good_until_s = trio.current_time() + 10
    assert knows(records) == (True, True)


# ---------------------------------------------------------------- forgetting


async def test_a_recall_of_an_inode_takes_all_of_it() -> None:
    records = cache()
    learn(records, FILE, DIRECTORY, a=FILE)
    records.recall(recall(DIRECTORY))
    assert records.inode(DIRECTORY) is None
    assert knows(records) == (True, False)


async def test_a_recall_of_names_leaves_the_others() -> None:
    records = cache()
    learn(records, FILE, DIRECTORY, a=FILE, b=OTHER)
    records.recall(recall(DIRECTORY, b"a", b"never seen"))
    assert records.inode(DIRECTORY) is None, "its times change with its entries"
    assert knows(records) == (True, False)
    assert records.entry(DIRECTORY, b"b") == OTHER


USES: dict[str, Callable[[RecordCache], object]] = {
    "a name in it": lambda records: records.entry(DIRECTORY, b"b"),
    "an answer of the server": lambda records: learn(records, DIRECTORY),
}


@pytest.mark.parametrize("use", [None, *USES])
async def test_a_directory_that_only_others_use_is_given_back(use: str | None) -> None:
    """Goal: who changes many names in a directory asks few others again and again."""
    records = cache()
    learn(records, DIRECTORY, a=FILE, b=OTHER, c=NOTHING)
    records.recall(recall(DIRECTORY, b"a"))
    assert records.entry(DIRECTORY, b"b") == OTHER, "it was used before"
    records.recall(recall(DIRECTORY, b"a"))
    if use is not None:
        USES[use](records)
    records.recall(recall(DIRECTORY, b"c"))
    assert records.entry(DIRECTORY, b"b") == (None if use is None else OTHER)
    given_back = records.take_given_back(records.dropped(10))
    assert given_back == ((DIRECTORY,) if use is None else ())


async def test_a_directory_that_only_others_use_stays_while_own_ops_are_on_their_way() -> None:
    records = cache()
    learn(records, DIRECTORY, a=FILE, b=OTHER)
    records.begin(UNLINK)
    for _ in range(3):
        records.recall(recall(DIRECTORY, b"c"))
    assert records.entry(DIRECTORY, b"b") == OTHER
    records.end(UNLINK)
    assert records.take_given_back(records.dropped(10)) == ()


async def test_without_a_link_nothing_is_known_or_given_back() -> None:
    records = cache(records_max=1)
    learn(records, OTHER, FILE)
    records.forget_all()
    records.good_until_s = math.inf
    assert records.inode(FILE) is None
    assert records.take_given_back(records.dropped(10)) == ()


async def test_forgetting_all_ends_what_was_good() -> None:
    records = cache()
    records.forget_all()
    assert records.good_until_s == -math.inf


# ---------------------------------------------------------------- questions


OVERTAKING = {
    "a recall of the file": lambda records: records.recall(recall(FILE)),
    "a recall of the name": lambda records: records.recall(recall(DIRECTORY, b"a")),
    "a recall of another name there": lambda records: records.recall(recall(DIRECTORY, b"b")),
    "the loss of the link": lambda records: records.forget_all(),
    "a recall of something else": lambda records: records.recall(recall(OTHER)),
}
KEPT = dict(
    zip(
        OVERTAKING,
        [(False, True), (True, False), (True, False), (False, False), (True, True)],
        strict=True,
    )
)


@pytest.mark.parametrize("what", OVERTAKING)
async def test_an_answer_that_was_overtaken_is_not_kept(what: str) -> None:
    """Goal: what was forgotten since the question stays forgotten, the rest of the answer is kept.
    Method: it happens between the question and its answer."""
    records = cache()
    with records.asking() as question:
        OVERTAKING[what](records)
        records.good_until_s = math.inf
        note_all(records, question)
    assert knows(records) == KEPT[what]
    with records.asking() as question:
        note_all(records, question)
    assert knows(records) == (True, True), "a later question is not overtaken"


async def test_a_question_under_way_does_not_stop_a_later_one() -> None:
    """Goal: moments, not locks. Method: the recall comes between two questions."""
    records = cache()
    with records.asking() as early:
        records.recall(recall(FILE))
        with records.asking() as late:
            note_all(records, late)
        assert knows(records) == (True, True)
        records.recall(recall(FILE))
        note_all(records, early)
    assert knows(records)[0] is False


async def test_too_many_recalls_overtake_every_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: what is remembered of recalls is bounded, and lost to the safe side."""
    monkeypatch.setattr(module, "_FORGOTTEN_MAX", 3)
    records = cache()
    with records.asking() as question:
        records.recall(recall(FILE))
        for number in range(4):
            records.recall(recall(InodeId(100 + number)))
        note_all(records, question)
    assert knows(records) == (False, False)


# ---------------------------------------------------------------- own ops


async def test_an_own_op_forgets_what_it_names() -> None:
    records = cache()
    learn(records, FILE, DIRECTORY, a=FILE, b=OTHER)
    records.begin(Create(**WHO, parent=DIRECTORY, name=b"b", ino=OTHER, mode=0o100644))
    assert records.inode(DIRECTORY) is None
    assert records.entry(DIRECTORY, b"b") is None
    assert knows(records) == (True, True)


OPS: dict[str, tuple[ClientOp, list[InodeId]]] = {
    "unlink": (UNLINK, [FILE]),
    "unlink of a name that leads nowhere": (Unlink(**WHO, parent=DIRECTORY, name=b"gone"), []),
    "unlink of a name that is not known": (Unlink(**WHO, parent=DIRECTORY, name=b"x"), []),
    "rename over another": (
        Rename(**WHO, parent=DIRECTORY, name=b"a", new_parent=DIRECTORY, new_name=b"b"),
        [FILE, OTHER],
    ),
    "setattr names its inode": (SetAttr(**WHO, ino=FILE), []),
    "link names its inode": (Link(**WHO, ino=FILE, parent=DIRECTORY, name=b"new"), []),
}


@pytest.mark.parametrize("what", OPS)
async def test_what_an_own_op_changes_without_naming_it_is_given_back(what: str) -> None:
    """Goal: known names say what is changed behind them. Method: each op, and what it forgets."""
    op, unnamed = OPS[what]
    records = cache()
    learn(records, FILE, OTHER, a=FILE, b=OTHER, gone=NOTHING)
    assert sorted(records.begin(op)) == unnamed
    forgotten = {FILE} if what in ("setattr names its inode", "link names its inode") else unnamed
    for ino in (FILE, OTHER):
        assert (records.inode(ino) is None) == (ino in forgotten)


async def test_nothing_is_kept_about_what_an_own_op_is_changing() -> None:
    """Goal: neither the state before the op nor that after it, while both may come. Method: answers
    to questions asked before, during and after it; those asked before its end are of no use."""
    records = cache()
    with records.asking() as before:
        records.begin(UNLINK)
        note_all(records, before)
        assert records.entry(DIRECTORY, b"a") is None
        with records.asking() as during:
            note_all(records, during)
            assert records.entry(DIRECTORY, b"a") is None
            records.end(UNLINK)
            note_all(records, before)
            note_all(records, during)
    assert records.entry(DIRECTORY, b"a") is None
    learn(records, a=NOTHING)
    assert records.entry(DIRECTORY, b"a") == NOTHING


async def test_two_own_ops_of_one_inode_both_have_to_end() -> None:
    records = cache()
    op = SetAttr(**WHO, ino=FILE)
    records.begin(op)
    records.begin(op)
    records.end(op)
    learn(records, FILE)
    assert records.inode(FILE) is None
    records.end(op)
    learn(records, FILE)
    assert records.inode(FILE) is not None


async def test_ops_outlive_a_link() -> None:
    """Goal: an op that is sent again over the next link still keeps its inode in flux."""
    records = cache()
    records.begin(UNLINK)
    records.forget_all()
    records.good_until_s = math.inf
    learn(records, a=FILE)
    assert records.entry(DIRECTORY, b"a") is None


# ---------------------------------------------------------------- bounds


async def test_the_least_recently_used_inode_makes_room_and_is_given_back() -> None:
    """Method: use two of three, attributes of one and an entry of the other; two more come."""
    records = cache(records_max=3)
    learn(records, FILE)
    learn(records, a=FILE)
    learn(records, OTHER)
    assert knows(records) == (True, True)
    learn(records, InodeId(14))
    assert records.inode(OTHER) is None
    learn(records, InodeId(15))
    assert knows(records) == (False, True)
    learn(records, InodeId(16))
    assert records.inode(InodeId(14)) is None
    assert records.take_given_back(records.dropped(2)) == (OTHER, FILE)
    assert records.take_given_back(records.dropped(2)) == (InodeId(14),)
    assert records.take_given_back(records.dropped(2)) == ()


async def test_an_answer_asked_before_a_lease_was_given_back_is_not_kept() -> None:
    """Goal: the server takes the lease back after it answered, so the answer is worth nothing.
    Method: the question is under way while the lease is given back."""
    records = cache(records_max=1)
    learn(records, FILE, OTHER)
    with records.asking() as question:
        assert records.take_given_back(records.dropped(10)) == (FILE,)
        records.note_inode(question, inode(FILE))
        assert records.inode(FILE) is None
        with records.asking() as later:
            records.note_inode(later, inode(FILE))
    assert records.inode(FILE) is not None


async def test_what_was_leased_again_meanwhile_is_not_given_back() -> None:
    records = cache(records_max=1)
    learn(records, FILE, OTHER, FILE)
    assert records.take_given_back(records.dropped(10)) == (OTHER,)


async def test_an_inode_newly_read_replaces_the_older() -> None:
    records = cache()
    learn(records, FILE)
    with records.asking() as question:
        records.note_inode(question, replace(inode(FILE), size=7))
    assert records.inode(FILE) == inode(FILE, size=7)


async def test_inodes_that_come_and_go_are_given_back_once() -> None:
    """Goal: what waits to be given back is bounded. Method: a cache that is too small for what is
    read again and again, and no keep-alive."""
    records = cache(records_max=2)
    for _ in range(100):
        learn(records, FILE, OTHER, InodeId(13), InodeId(14))
    assert records.take_given_back(records.dropped(1000)) == (FILE, OTHER)


async def test_names_are_bounded_also_where_files_fill_the_cache() -> None:
    """Goal: a directory larger than the bound costs no more than the bound, and nobody else's
    inodes. Method: list it beside leased files; the newest names stay."""
    records = cache(names_max=3)
    learn(records, FILE, OTHER)
    learn(records, **{f"n{number}": FILE for number in range(10)})
    known = [n for n in range(10) if records.entry(DIRECTORY, b"n%d" % n) is not None]
    assert known == [7, 8, 9]
    assert records.inode(FILE) is not None
    assert records.take_given_back(records.dropped(10)) == ()


async def test_the_directory_that_was_not_used_for_long_loses_names_first() -> None:
    records = cache(names_max=4)
    parents = [InodeId(number) for number in (20, 21, 22)]
    with records.asking() as question:
        for parent in parents[:2]:
            records.note_entry(question, parent, b"a", FILE)
            records.note_entry(question, parent, b"b", FILE)
        assert records.entry(parents[0], b"a") == FILE
        for name in (b"a", b"b", b"c"):
            records.note_entry(question, parents[2], name, FILE)

    def known(parent: InodeId) -> list[bytes]:
        return [name for name in (b"a", b"b", b"c") if records.entry(parent, name) is not None]

    assert [known(parent) for parent in parents] == [[b"b"], [], [b"a", b"b", b"c"]]


async def test_forgotten_names_make_room() -> None:
    """Goal: the count of names is right, however they go. Method: forget by name, by directory, by
    own op, by lack of room and with the link; a full cache then still takes all it may."""
    records = cache(names_max=2, records_max=2)
    ways = [
        lambda: records.recall(recall(DIRECTORY, b"a", b"b")),
        lambda: records.recall(recall(DIRECTORY)),
        lambda: learn(records, FILE, OTHER),
        records.forget_all,
    ]
    for forget in ways:
        records.good_until_s = math.inf
        learn(records, a=FILE, b=OTHER)
        assert records.entry(DIRECTORY, b"a") == FILE
        assert records.entry(DIRECTORY, b"b") == OTHER
        forget()
        records.good_until_s = math.inf
        assert records.entry(DIRECTORY, b"a") is None
