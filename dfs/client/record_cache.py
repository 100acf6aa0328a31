"""What this client remembers of inodes and directory entries, under leases (I4).

    an inode is | means                                            leaves when
    unknown     | the server is asked                              the answer says "leased" → leased
    leased      | answers from here are as good as the server's    recalled, own op → unknown

An answer counts only if nothing was forgotten about its inode since the question was sent: a recall
may overtake it. While own ops are under way that change an inode (`in flux`), no answer about it is
kept at all: nobody here can say which of the two came first.

Everything is doubtful once the server may have ended the session without our hearing of it:
`good_until_s` is as long as it surely has not. Times are seconds of trio's clock.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Final

import trio

from dfs.core.leases import named_by
from dfs.limits import NAMES_CACHED_MAX, RECORDS_CACHED_MAX
from dfs.types import InodeId

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from dfs.core.messages import Recall
    from dfs.core.namespace.ops import ClientOp
    from dfs.core.namespace.records import Inode

NOTHING: Final = InodeId(0)
"""What a name leads to that is known not to exist."""
_FORGOTTEN_MAX: Final = 10_000


class _Lease:
    """What is known of one inode."""

    __slots__ = ("inode", "names")

    def __init__(self) -> None:
        self.inode: Inode | None = None
        self.names: dict[bytes, InodeId] = {}


class Question:
    """A request under way whose answer may be remembered."""

    __slots__ = ("asked_at",)

    def __init__(self, asked_at: int) -> None:
        self.asked_at = asked_at


class RecordCache:
    """Bounded; inodes that are dropped for lack of room are given back (`take_given_back`)."""

    def __init__(
        self, *, records_max: int = RECORDS_CACHED_MAX, names_max: int = NAMES_CACHED_MAX
    ) -> None:
        assert records_max > 0
        assert names_max > 0
        self.good_until_s = -math.inf
        self._records_max = records_max
        self._names_max = names_max
        self._leases: OrderedDict[InodeId, _Lease] = OrderedDict()
        """The least recently used first."""
        self._name_count = 0
        self._named: OrderedDict[InodeId, None] = OrderedDict()
        """Of the leases those that have names, the least recently used first."""
        self._given_back: dict[InodeId, None] = {}
        """Dropped, and not leased again since. As many as the server leases, at most."""
        self._moment = 0
        """Counts what was forgotten."""
        self._forgotten: dict[InodeId, int] = {}
        """The moment at which something of an inode was forgotten last."""
        self._all_forgotten = 0
        self._flux: Counter[InodeId] = Counter()
        self._question_count = 0

    @property
    def is_good(self) -> bool:
        return trio.current_time() < self.good_until_s

    def inode_good_s(self, ino: InodeId) -> float:
        """For how many seconds from now the inode's record may be remembered; 0: it is not leased.

        Holds for answers that are given before the next await.
        """
        lease = self._leases.get(ino)
        if lease is None or lease.inode is None:
            return 0
        return max(0.0, self.good_until_s - trio.current_time())

    def entry_good_s(self, parent: InodeId, name: bytes, ino: InodeId) -> float:
        """The same for the name leading to this inode, or to NOTHING."""
        lease = self._leases.get(parent)
        if lease is None or lease.names.get(name) != ino:
            return 0
        return max(0.0, self.good_until_s - trio.current_time())

    # ------------------------------------------------------------ answers from memory

    def inode(self, ino: InodeId) -> Inode | None:
        """The inode, as the server would tell it now; None: ask."""
        lease = self._leases.get(ino)
        if lease is None or lease.inode is None or not self.is_good:
            return None
        self._leases.move_to_end(ino)
        return lease.inode

    def entry(self, parent: InodeId, name: bytes) -> InodeId | None:
        """Where the name leads, perhaps to NOTHING; None: ask."""
        lease = self._leases.get(parent)
        if lease is None or not self.is_good:
            return None
        self._leases.move_to_end(parent)
        if lease.names:
            self._named.move_to_end(parent)
        return lease.names.get(name)

    # ------------------------------------------------------------ answers of the server

    @contextmanager
    def asking(self) -> Iterator[Question]:
        """Around sending a request and noting what its answer leases."""
        self._question_count += 1
        try:
            yield Question(self._moment)
        finally:
            self._question_count -= 1
            if not self._question_count:
                self._forgotten.clear()

    def note_inode(self, question: Question, inode: Inode) -> None:
        """The answer leases the inode."""
        if self._may_keep(question, inode.ino):
            self._lease(inode.ino).inode = inode

    def note_entry(self, question: Question, parent: InodeId, name: bytes, ino: InodeId) -> None:
        """The answer leases what a name leads to, or that it leads to NOTHING."""
        if self._may_keep(question, parent):
            lease = self._lease(parent)
            self._name_count += name not in lease.names
            lease.names[name] = ino
            self._named[parent] = None
            self._named.move_to_end(parent)
            if self._name_count > self._names_max:
                self._drop_name()

    def _may_keep(self, question: Question, ino: InodeId) -> bool:
        newest = max(self._forgotten.get(ino, 0), self._all_forgotten)
        return newest <= question.asked_at and ino not in self._flux

    def _lease(self, ino: InodeId) -> _Lease:
        lease = self._leases.get(ino)
        if lease is None:
            lease = self._leases[ino] = _Lease()
            self._given_back.pop(ino, None)
            if len(self._leases) > self._records_max:
                self._drop(next(iter(self._leases)))
        else:
            self._leases.move_to_end(ino)
        return lease

    def _drop(self, ino: InodeId) -> None:
        self._remove(ino)
        self._given_back[ino] = None

    def _drop_name(self) -> None:
        """Forget a name of the directory that was not used for the longest time. The server need
        not hear of it: the directory stays leased."""
        lease = self._leases[next(iter(self._named))]
        self._remove_name(next(iter(self._named)), lease, next(iter(lease.names)))

    def _remove(self, ino: InodeId) -> None:
        self._name_count -= len(self._leases.pop(ino).names)
        self._named.pop(ino, None)

    def _remove_name(self, parent: InodeId, lease: _Lease, name: bytes) -> None:
        if name in lease.names:
            del lease.names[name]
            self._name_count -= 1
            if not lease.names:
                del self._named[parent]

    def dropped(self, count_max: int) -> list[InodeId]:
        """Leases that were dropped and have to be given back."""
        return list(islice(self._given_back, count_max))

    def take_given_back(self, dropped: Collection[InodeId]) -> tuple[InodeId, ...]:
        """Those of the `dropped` that are still to be given back; the server has to be told before
        any other question is sent."""
        taken = tuple(ino for ino in dropped if ino in self._given_back)
        for ino in taken:
            assert ino not in self._leases
            del self._given_back[ino]
            self._forget(ino, ())
        return taken

    # ------------------------------------------------------------ forgetting

    def recall(self, recall: Recall) -> None:
        """Forget what somebody else is going to change."""
        for ino, names in recall.touched.items():
            self._forget(ino, names)

    def begin(self, op: ClientOp) -> list[InodeId]:
        """An own op is about to be sent: forget what it changes. Returns what it changes without
        naming it, and is given back. `end` must follow."""
        unnamed = []
        for parent, names in named_by(op).items():
            lease = self._leases.get(parent)
            for name in names if lease is not None else ():
                ino = lease.names.get(name, NOTHING) if lease is not None else NOTHING
                if ino in self._leases:
                    self._forget(ino, ())
                    unnamed.append(ino)
            self._flux[parent] += 1
            self._forget(parent, names)
        return unnamed

    def end(self, op: ClientOp) -> None:
        """The own op has its outcome."""
        for ino, names in named_by(op).items():
            self._forget(ino, names)
            self._flux[ino] -= 1
            if not self._flux[ino]:
                del self._flux[ino]

    def forget_all(self) -> None:
        """Nothing is leased any more."""
        self._moment += 1
        self._all_forgotten = self._moment
        self._leases.clear()
        self._named.clear()
        self._given_back.clear()
        self._forgotten.clear()
        self._name_count = 0
        self.good_until_s = -math.inf

    def _forget(self, ino: InodeId, names: Iterable[bytes]) -> None:
        """These names in a directory, and its attributes; without names, all about the inode."""
        self._moment += 1
        if self._question_count:
            self._forgotten[ino] = self._moment
            if len(self._forgotten) > _FORGOTTEN_MAX:
                self._all_forgotten = self._moment
                self._forgotten.clear()
        lease = self._leases.get(ino)
        if lease is None:
            return
        lease.inode = None
        names = tuple(names)
        for name in names:
            self._remove_name(ino, lease, name)
        if not names:
            self._remove(ino)
