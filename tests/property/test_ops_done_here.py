"""Goal: whatever a client knows is what the server will have once all that is owed has arrived, and
what it does by itself is what the server does then (I4, I8). Method: random steps of one client
whose server lags behind; questions are answered at any moment, and answers come at any later one.
"""

from __future__ import annotations

import copy
import stat
from contextlib import ExitStack
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from dfs.client.lease import NOTHING
from dfs.client.local_ops import do_here
from dfs.client.record_cache import RecordCache
from dfs.core.messages import Recall
from dfs.core.namespace.keys import dentry_key, inode_key
from dfs.core.namespace.ops import (
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    CommitData,
    Create,
    Link,
    Mkdir,
    Piece,
    Rename,
    Rmdir,
    SetAttr,
    SetXattr,
    Symlink,
    Unlink,
)
from dfs.core.namespace.records import Dentry, Inode
from dfs.errors import FsError
from tests.unit.client.leased import FOR_EVER, Leased, touched_in
from tests.unit.core.namespace.volume import ALICE, ROOT_USER, Volume

if TYPE_CHECKING:
    from dfs.core.namespace.ops import ClientOp
    from dfs.types import InodeId

FILE_MODE = stat.S_IFREG | 0o644
NAMES = (b"a", b"b", b"c")
INODES_MAX = 9


class Owed:
    """An op that was done here: sent, then known to the server, then answered."""

    def __init__(self, op: ClientOp, touched: list[InodeId]) -> None:
        self.op, self.touched = op, touched
        self.is_applied = False


class Asked:
    """A lookup or getattr on its way: sent, then answered, then heard."""

    def __init__(self, steps: Steps, ino: InodeId, name: bytes | None) -> None:
        self._steps, self._ino, self._name = steps, ino, name
        self._stack = ExitStack()
        self._question = self._stack.enter_context(steps.records.asking())
        self.is_answered = False
        self._entry = NOTHING
        self._inodes: list[Inode] = []

    def answer(self) -> None:
        self.is_answered = True
        inos = [self._ino]
        if self._name is not None:
            entry = self._steps.server.get(dentry_key(self._ino, self._name), Dentry)
            self._entry = entry.ino if entry is not None else NOTHING
            inos = [self._entry] if self._entry else []
        self._inodes = [inode for ino in inos if (inode := self._steps.inode_there(ino))]

    def hear(self) -> None:
        with self._stack:
            if self._name is not None:
                self._steps.records.note_entry(self._question, self._ino, self._name, self._entry)
            for inode in self._inodes:
                self._steps.records.note_inode(self._question, inode)


class Steps(Leased):
    """A client, and a server that hears of its ops later."""

    def __init__(self, random: Random) -> None:
        bound = random.choice([3, 6, 1000])
        super().__init__(Volume(), RecordCache(records_max=bound, names_max=bound))
        self.server = copy.deepcopy(self.volume)
        self.random = random
        self.owed: list[Owed] = []
        self.asked: list[Asked] = []
        self.done_count = self.failed_count = self.sent_count = 0

    def step(self) -> None:
        steps = [self.ask_later, self.list_all, self.list_all, self.lose, self.commit]
        steps += [self.do] * 6
        steps += [self.carry] * 3 if self.owed else []
        steps += [self.go_on] * 3 if self.asked else []
        self.random.choice(steps)()
        self.check(*NAMES)

    def an_ino(self) -> InodeId:
        return self.random.choice(self.inos())

    def a_directory(self) -> InodeId:
        return self.random.choice([i for i in self.inos() if self.volume.inode(i).is_directory])

    def inode_there(self, ino: InodeId) -> Inode | None:
        """What the server leases: nothing without a name."""
        inode = self.server.records.get(inode_key(ino))
        return inode if isinstance(inode, Inode) and inode.nlink else None

    # ---------------------------------------------------------------- questions

    def ask_later(self) -> None:
        """What was done here to an inode is told before the inode is asked for."""
        if self.random.random() < 0.5:
            ino, name = self.a_directory(), self.random.choice(NAMES)
            known = self.records.entry(ino, name)
            if known == NOTHING or (known and self.records.inode(known)):
                return
            if self.records.is_owed(ino) and not self.records.is_exclusive(ino):
                self.settle_all()
            self.asked.append(Asked(self, ino, name))
        else:
            ino = self.an_ino()
            if self.records.is_owed(ino):
                self.settle_all()
            self.asked.append(Asked(self, ino, None))

    def go_on(self) -> None:
        asked = self.random.choice(self.asked)
        if not asked.is_answered:
            asked.answer()
        else:
            self.asked.remove(asked)
            asked.hear()

    def list_all(self) -> None:
        """All of a directory is this client's alone."""
        ino = self.a_directory()
        self.settle_all()
        self.alone(ino)
        for name in NAMES:
            if self.records.entry(ino, name) is None:
                self.learn_name(ino, name)
            entry = self.truth(ino, name)
            if entry and self.random.random() < 0.8:
                self.alone(entry)

    def lose(self) -> None:
        """A recall, or leases given back; rarely all of them, with the link."""
        ino, names = self.an_ino(), tuple(self.random.sample(NAMES, self.random.randint(0, 2)))
        is_shared = self.random.random() < 0.3
        self.records.recall(Recall(1, {ino: names}, is_shared))
        self.records.take_given_back(self.records.dropped(2))
        if self.random.random() < 0.02:
            self.records.forget_all()
            self.records.good_until_s = FOR_EVER

    # ---------------------------------------------------------------- ops

    def carry(self) -> None:
        """The oldest that is owed arrives, or its answer does."""
        owed = next((each for each in self.owed if not each.is_applied), None)
        if owed is not None and self.random.random() < 0.6:
            owed.is_applied = True
            self.server.apply(owed.op)
        elif self.owed[0].is_applied:
            self.records.settle(self.owed.pop(0).touched)

    def settle_all(self) -> None:
        while self.owed:
            self.carry()

    def commit(self) -> None:
        """Data of a file is sent; ops may be done before it has arrived."""
        files = [i for i in self.inos() if self.volume.inode(i).is_file]
        if not files:
            return
        ino = self.random.choice(files)
        self.settle_all()
        self.records.begin_commit(ino)
        self.do()
        piece = Piece(offset=self.random.randint(0, 9), length=1, inline=b"x")
        op = op_of(self.volume, CommitData, ino=ino, pieces=(piece,))
        result = self.volume.apply(op)
        self.server.apply(op)
        self.records.end_commit(ino, result.inode)

    def do(self) -> None:
        op = self.an_op()
        touched = touched_in(self.volume, op)
        done, failed_with = None, 0
        try:
            done = do_here(self.records, op)
        except FsError as error:
            failed_with = error.errno
        if failed_with:
            self.failed_count += 1
            with pytest.raises(FsError) as there:
                self.volume.apply(op)
            assert there.value.errno == failed_with
        elif done is not None:
            self.done_count += 1
            assert done[0] == self.volume.apply(op)
            assert set(done[1]) == touched.keys()
            if touched:
                self.owed.append(Owed(op, done[1]))
        else:
            self.sent_count += 1
            self.settle_all()
            self.ask(op, touched)

    def apply(self, op: ClientOp) -> None:
        super().apply(op)
        self.server.apply(op)

    def an_op(self) -> ClientOp:
        at = {"parent": self.a_directory(), "name": self.random.choice(NAMES)}
        to = {"new_parent": self.a_directory(), "new_name": self.random.choice(NAMES)}
        flags = self.random.choice([0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE])
        mode = self.random.choice([0o755, 0o1777, 0o2775])
        kinds: list[tuple[type[ClientOp], dict[str, Any]]] = [
            (Create, {**at, "mode": FILE_MODE, "is_exclusive": self.random.random() < 0.5}),
            (Mkdir, {**at, "mode": mode}),
            (Symlink, {**at, "target": b"t"}),
            (Link, {**at, "ino": self.an_ino()}),
            (Unlink, at),
            (Rmdir, at),
            (Rename, {**at, **to, "flags": flags}),
            (Rename, {**at, **to, "flags": flags}),
            (SetAttr, {"ino": self.an_ino(), "mode": mode}),
            (SetAttr, {"ino": self.an_ino(), "uid": 1000}),
            (SetAttr, {"ino": self.an_ino(), "size": self.random.randint(0, 5)}),
            (SetXattr, {"ino": self.an_ino(), "name": b"user.x", "value": b"v"}),
        ]
        is_full = len(self.inos()) >= INODES_MAX
        kind, fields = self.random.choice(kinds[3:] if is_full else kinds)
        who = self.random.choice([ROOT_USER, ROOT_USER, ROOT_USER, ALICE])
        return op_of(self.volume, kind, who, **fields)


def op_of(volume: Volume, kind: type[ClientOp], who: Any = ROOT_USER, **fields: Any) -> ClientOp:
    """An op of this moment. What it makes gets the next number."""
    if "ino" in kind.__struct_fields__ and "ino" not in fields:
        fields["ino"] = volume.new_ino()
    return kind(**fields, **volume.stamp(who))


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.integers(1, 100))
def test_whatever_is_known_and_done_here_is_as_at_the_server(seed: int, step_count: int) -> None:
    async def play() -> None:
        steps = Steps(Random(seed))
        for _ in range(step_count):
            steps.step()
        steps.settle_all()
        steps.volume.assert_sound(frozenset(steps.orphans()))
        assert steps.server.records == steps.volume.records

    trio.run(play)


async def test_the_random_steps_lead_somewhere() -> None:
    counts = [0, 0, 0]
    for seed in range(10):
        steps = Steps(Random(seed))
        for _ in range(100):
            steps.step()
        counts = [
            sum(pair)
            for pair in zip(
                counts, (steps.done_count, steps.failed_count, steps.sent_count), strict=True
            )
        ]
    assert min(counts) > 50, counts
