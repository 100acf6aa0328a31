"""What this client remembers of inodes and directory entries, under leases (I4).

    an inode is | means                                            leaves when
    unknown     | the server is asked                              the answer says "leased" → leased
    leased      | answers from here are as good as the server's    recalled, own op → unknown
    exclusive   | ops may be done here first (`take`)              shared → leased · as above

A directory is as long as it has entries: who knows so many of them knows that there are no others.

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

from dfs.client.lease import NOTHING, Lease
from dfs.core.leases import named_by
from dfs.core.namespace.keys import dentry_key
from dfs.core.namespace.records import Dentry, Inode
from dfs.limits import NAME_BYTES_MAX, NAMES_CACHED_MAX, RECORDS_CACHED_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from dfs.core.leases import Touched
    from dfs.core.messages import Recall
    from dfs.core.namespace.ops import ClientOp
    from dfs.core.namespace.records import Record
    from dfs.types import InodeId

_FORGOTTEN_MAX: Final = 10_000


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
        self.on_lost: Callable[[InodeId], None] = lambda _: None
        """Hears of every inode that is leased no longer, but not of all at once (`forget_all`)."""
        self._records_max = records_max
        self._names_max = names_max
        self._leases: OrderedDict[InodeId, Lease] = OrderedDict()
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
        self._owed_since: dict[InodeId, int] = {}
        self._settled: dict[InodeId, int] = {}
        """Owed no more, while questions are under way: since when it was."""
        self._all_settled = 0
        self._changed: dict[InodeId, int] = {}
        """The moment at which an op changed it here last, or became known to the server."""
        self._all_forgotten = 0
        self._flux: Counter[InodeId] = Counter()
        self._owed: Counter[InodeId] = Counter()
        """Changed by ops that were done here and are not answered yet."""
        self._promised: dict[InodeId, None] = {}
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

    def counts(self) -> tuple[int, int, int]:
        """Inodes leased, of these exclusive, and names known. Looks at all: 2 ms at most."""
        exclusive_count = sum(lease.is_exclusive for lease in self._leases.values())
        return len(self._leases), exclusive_count, self._name_count

    # ------------------------------------------------------------ answers from memory

    def inode(self, ino: InodeId) -> Inode | None:
        """The inode, as the server would tell it now; None: ask."""
        return self.leased_inode(ino) if self.is_good else None

    def leased_inode(self, ino: InodeId) -> Inode | None:
        """As `inode`, for who knows that leases are good."""
        lease = self._leases.get(ino)
        if lease is None or lease.inode is None:
            return None
        self._leases.move_to_end(ino)
        lease.is_used = True
        return lease.inode

    def entry(self, parent: InodeId, name: bytes) -> InodeId | None:
        """Where the name leads, perhaps to NOTHING; None: ask."""
        return self.leased_entry(parent, name) if self.is_good else None

    def leased_entry(self, parent: InodeId, name: bytes) -> InodeId | None:
        """As `entry`, for who knows that leases are good."""
        lease = self._leases.get(parent)
        if lease is None:
            return None
        self._leases.move_to_end(parent)
        lease.is_used = True
        if lease.names:
            self._named.move_to_end(parent)
        known = lease.names.get(name)
        if known is None and lease.is_complete and 0 < len(name) <= NAME_BYTES_MAX:
            return NOTHING if name not in (b".", b"..") else None
        return known

    # ------------------------------------------------------------ ops that are done here

    def is_exclusive(self, ino: InodeId) -> bool:
        """Nobody else knows anything of the inode, nor changes it."""
        return self.is_leased_exclusively(ino) and self.is_good

    def is_leased_exclusively(self, ino: InodeId) -> bool:
        """As `is_exclusive`, for who knows that leases are good."""
        lease = self._leases.get(ino)
        return lease is not None and lease.is_exclusive

    def is_alone(self, ino: InodeId) -> bool:
        """The inode is, or was until a recall that is not answered yet, this client's alone."""
        return ino in self._promised or self.is_exclusive(ino)

    def is_in_flux(self, ino: InodeId) -> bool:
        """An op is under way whose result is not known here, and which changes the inode."""
        return ino in self._flux

    def is_owed(self, ino: InodeId) -> bool:
        """The server does not know yet all that was done here to the inode."""
        return ino in self._owed

    @property
    def owed(self) -> Collection[InodeId]:
        return self._owed.keys()

    def promise(self, ino: InodeId) -> None:
        """The file's data is not at the server, and others are to find it all the same: the lease
        is not given back before `keep_promise`."""
        self._promised[ino] = None

    @property
    def promised(self) -> Collection[InodeId]:
        return self._promised.keys()

    def keep_promise(self, ino: InodeId) -> None:
        self._promised.pop(ino, None)

    def take(self, changes: Mapping[bytes, Record | None], touched: Touched) -> None:
        """Take in what an op has changed that was done here. What it touches is owed until
        `settle`."""
        for ino in touched:
            self._mark(self._changed, ino)
            self._owed_since.setdefault(ino, self._moment)
            self._owed[ino] += 1
        for record in changes.values():
            if isinstance(record, Inode):
                self._take_inode(record)
        for parent, names in touched.items():
            for name in names:
                record = changes[dentry_key(parent, name)]
                self._set_name(parent, name, record.ino if isinstance(record, Dentry) else NOTHING)

    def _take_inode(self, inode: Inode) -> None:
        if inode.nlink == 0:
            # The server takes the lease away by itself.
            if inode.ino in self._leases:
                self._remove(inode.ino)
            return
        lease = self._lease(inode.ino)
        lease.inode = inode
        lease.is_exclusive = True

    def settle(self, touched: Iterable[InodeId]) -> None:
        """An op that was done here is durable, or lost with its session. What was asked before may
        be answered from before it."""
        for ino in touched:
            self._mark(self._changed, ino)
            self._owed[ino] -= 1
            if not self._owed[ino]:
                del self._owed[ino]
                since = self._owed_since.pop(ino)
                if self._question_count:
                    self._settled[ino] = since
                    if len(self._settled) > _FORGOTTEN_MAX:
                        self._all_settled = self._moment
                        self._settled.clear()

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
                self._changed.clear()
                self._settled.clear()

    def note_inode(self, question: Question, inode: Inode, *, is_exclusive: bool = False) -> None:
        """The answer leases the inode, perhaps to this client alone."""
        if self._may_keep(question, inode.ino):
            lease = self._lease(inode.ino)
            lease.inode = inode
            lease.is_exclusive |= is_exclusive

    def not_recalled(self, question: Question, inodes: Iterable[Inode]) -> list[Inode]:
        """Of what the answer leases to this client alone, what was not recalled meanwhile."""
        return [inode for inode in inodes if self.is_newer(question, inode.ino)]

    def note_exclusive(self, inode: Inode) -> None:
        """This client alone has the inode leased: an own op has changed it."""
        if inode.ino not in self._flux:
            lease = self._lease(inode.ino)
            lease.inode = inode
            lease.is_exclusive = True

    def wanted_beside(self, op: ClientOp) -> list[InodeId]:
        """An own op is about to be sent that could not be done here. Where one follows another:
        all that is known in the same directory and not exclusive, for it may be changed next.

        Where that does not help, since others have leases, it is wanted ever less often.
        """
        return [
            ino
            for directory in self._directories_of(op)
            if directory.wants_more()
            for ino in directory.names.values()
            if ino in self._leases and self._leases[ino].may_be_wanted
        ]

    def _directories_of(self, op: ClientOp) -> Iterator[Lease]:
        """Where its names are, or the inode; and where a directory is that should be this client's
        alone, as the one above it is."""
        for ino, names in named_by(op).items():
            lease = self._leases.get(ino)
            if lease is None:
                continue
            above = self._leases.get(lease.parent)
            if names:
                yield lease
            if above is not None and (not names or above.is_exclusive > lease.is_exclusive):
                yield above

    def note_upgraded(self, question: Question, upgraded: Iterable[InodeId]) -> None:
        """The answer to an own op says that this client alone has these leased."""
        for ino in upgraded:
            lease = self._leases.get(ino)
            if lease is not None and self.is_unforgotten(question, ino) and ino not in self._flux:
                lease.is_exclusive = True
                directory = self._leases.get(lease.parent)
                if directory is not None:
                    directory.note_upgraded()

    def note_entry(self, question: Question, parent: InodeId, name: bytes, ino: InodeId) -> None:
        """The answer leases what a name leads to, or that it leads to NOTHING."""
        lease = self._leases.get(parent)
        if lease is not None and name in lease.names and lease.is_exclusive:
            return  # known better here
        is_kept = self.is_unforgotten(question, parent) and parent not in self._flux
        if is_kept and (parent not in self._owed or lease is not None):
            self._set_name(parent, name, ino)

    def _set_name(self, parent: InodeId, name: bytes, ino: InodeId) -> None:
        lease = self._lease(parent)
        known = lease.names.get(name)
        self._name_count += known is None
        lease.present_count += bool(ino) - bool(known)
        lease.names[name] = ino
        if ino in self._leases:
            self._leases[ino].parent = parent
        self._named[parent] = None
        self._named.move_to_end(parent)
        if self._name_count > self._names_max:
            self._drop_name()

    def _may_keep(self, question: Question, ino: InodeId) -> bool:
        return self.is_newer(question, ino) and ino not in self._flux

    def is_newer(self, question: Question, ino: InodeId) -> bool:
        """The question was asked since anything was forgotten about the inode, or done to it
        here."""
        is_unchanged = self._changed.get(ino, 0) <= question.asked_at and ino not in self._owed
        return is_unchanged and self.is_unforgotten(question, ino)

    def was_owed(self, question: Question, ino: InodeId) -> bool:
        """When the question was asked the server may not have known all that was done here to the
        inode."""
        moments = (self._owed_since.get(ino), self._settled.get(ino))
        is_known_so = any(since is not None and since <= question.asked_at for since in moments)
        return is_known_so or question.asked_at < self._all_settled

    def is_unforgotten(self, question: Question, ino: InodeId) -> bool:
        """Nobody else has changed the inode since the question was asked, if it was leased then."""
        newest = max(self._forgotten.get(ino, 0), self._all_forgotten)
        return newest <= question.asked_at

    def _lease(self, ino: InodeId) -> Lease:
        lease = self._leases.get(ino)
        if lease is None:
            lease = self._leases[ino] = Lease()
            self._given_back.pop(ino, None)
            if len(self._leases) > self._records_max:
                self._drop_oldest(newest=ino)
        else:
            self._leases.move_to_end(ino)
            lease.is_used = True
        return lease

    def _drop_oldest(self, *, newest: InodeId) -> None:
        """What there has to be room for stays, too."""
        ino = next((i for i in self._leases if i != newest and not self._is_needed(i)), None)
        if ino is not None:
            self._mark_changeable(ino)
            self._remove(ino)
            self._given_back[ino] = None

    def _is_needed(self, ino: InodeId) -> bool:
        """What is owed stays: nobody else knows it."""
        return ino in self._owed or ino in self._promised or ino in self._flux

    def _drop_name(self) -> None:
        """Forget a name of the directory that was not used for the longest time. The server need
        not hear of it: the directory stays leased."""
        ino = next((ino for ino in self._named if ino not in self._owed), None)
        if ino is not None:
            self._mark_changeable(ino)
            lease = self._leases[ino]
            self._remove_name(ino, lease, next(iter(lease.names)))

    def _mark_changeable(self, ino: InodeId) -> None:
        """What is about to be dropped may have been changed here since somebody asked for it."""
        if self._leases[ino].is_exclusive:
            self._mark(self._forgotten, ino)

    def _remove(self, ino: InodeId) -> None:
        self._name_count -= len(self._leases.pop(ino).names)
        self._named.pop(ino, None)
        self.on_lost(ino)

    def _remove_name(self, parent: InodeId, lease: Lease, name: bytes) -> None:
        if name in lease.names:
            lease.present_count -= bool(lease.names.pop(name))
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
        """Forget what somebody else is going to change, or share what somebody looks at. A
        directory in which others change one name after the other, and in which nobody here is
        interested meanwhile, is given back, so that they need not ask again."""
        for ino, names in recall.touched.items():
            lease = self._leases.get(ino)
            if lease is not None:
                lease.is_exclusive = False
            if recall.is_shared:
                # What is under way may say that the inode is exclusive.
                self._mark(self._forgotten, ino)
                continue
            if names and lease is not None and not lease.is_used and not self._is_needed(ino):
                names = ()
                self._given_back[ino] = None
            self._forget(ino, names)
            if lease is not None:
                lease.is_used = False

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
        """The own op has its outcome, or was never sent."""
        for ino, names in named_by(op).items():
            self._forget(ino, names)
            self._leave_flux(ino)

    def _leave_flux(self, ino: InodeId) -> None:
        self._flux[ino] -= 1
        if not self._flux[ino]:
            del self._flux[ino]

    def begin_commit(self, ino: InodeId) -> None:
        """Data of a file is about to be sent that is this client's alone: what is known of it stays
        good for whoever lays over it what was written. `end_commit` must follow."""
        self._flux[ino] += 1

    def end_commit(self, ino: InodeId, inode: Inode | None) -> None:
        """The data is the file's now, which is `inode`; None: nothing happened, as far as known."""
        self._leave_flux(ino)
        self._mark(self._forgotten, ino)
        lease = self._leases.get(ino)
        if lease is not None and lease.inode is not None and inode is not None:
            lease.inode = inode

    def forget_all(self) -> None:
        """Nothing is leased any more."""
        self._moment += 1
        self._all_forgotten = self._moment
        self._leases.clear()
        self._named.clear()
        self._given_back.clear()
        self._forgotten.clear()
        self._changed.clear()
        self._name_count = 0
        self.good_until_s = -math.inf

    def _forget(self, ino: InodeId, names: Iterable[bytes]) -> None:
        """These names in a directory, and its attributes; without names, all about the inode."""
        self._mark(self._forgotten, ino)
        lease = self._leases.get(ino)
        if lease is None:
            return
        lease.inode = None
        names = tuple(names)
        for name in names:
            self._remove_name(ino, lease, name)
        if not names:
            self._remove(ino)

    def _mark(self, moments: dict[InodeId, int], ino: InodeId) -> None:
        """Answers about the inode that are under way are not to be kept."""
        self._moment += 1
        if self._question_count:
            moments[ino] = self._moment
            if len(moments) > _FORGOTTEN_MAX:
                self._all_forgotten = self._moment
                moments.clear()
