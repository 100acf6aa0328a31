"""Tasks of all clients contend for a few names in a few directories, and for small files that they
write as a whole. Everything that they are told goes into one history, which must be explicable by
one order (`checkers/history.py`).

Catches what breaks I4 and I8: an op that is applied twice, not at all, or answered for another; a
name that comes back, or is seen before and not after; a link count that does not fit the names; a
synced write that others do not see.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dfs.errors import FsError
from dfs.types import InodeId
from tests.simulation.checkers.history import Access, Answer, History, Op, check_history
from tests.simulation.checkers.namespace_model import is_directory, value_of
from tests.simulation.options import Count, Share, WorkloadOptions
from tests.simulation.workloads.observe import ROOT_USER, read_entries
from tests.simulation.workloads.places import NEW_FILE, directories_at, open_at
from tests.simulation.workloads.tree import RENAME_EXCHANGE, RENAME_NOREPLACE
from tests.simulation.workloads.workload import Stepper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dfs.client.client import Client
    from dfs.core.namespace.records import Inode
    from tests.simulation.workloads.workload import Site

PLACE = b"contended"
NAMES = (b"a", b"b", b"c")
WEIGHTS = {
    "create": 6,
    "mkdir": 2,
    "unlink": 4,
    "rmdir": 2,
    "lookup": 3,
    "stat": 2,
    "rename": 6,
    "link": 2,
    "list": 2,
    "register": 3,
}
PERMISSION_CHECK_SHARE = 0.5
"""Ops before which the directory's attributes are looked at, as kernels do that do not know them.
They are needed for doing anything there without the server."""
REGISTER_SIZES = (64, 5000, 700)
"""Bytes of the files that are written as a whole: inline, in a block, inline."""


class ContenderOptions(WorkloadOptions):
    """The table `workloads.contender`."""

    directories: Count = 2
    stay_chance: Share = 0.0
    """How often an op is about names of the directory where the last one was. Who stays for a while
    has it for itself."""


def make_contenders(site: Site, options: ContenderOptions) -> list[Contender]:
    """One client's; those of all clients share one history."""
    history = site.shared.get(
        "history", lambda: History(len(NAMES), options.directories), check_history
    )
    numbers = site.numbers(options.per_client)
    return [Contender(site, number, history, options) for number in numbers]


class Contender(Stepper):
    """One task. Outlives the clients that it works through."""

    def __init__(
        self, site: Site, number: int, history: History, options: ContenderOptions
    ) -> None:
        super().__init__(site, f"c{number}", options.pause_s)
        self._number = number
        self._client_number = site.client_number
        self._client_count = site.scenario.clients
        self._history = history
        self._directories: Sequence[InodeId] = ()
        self._stay_chance = options.stay_chance
        self._stay = number % history.directory_count
        """The directory of the last op, where it may stay."""
        self._under_way: int | None = None
        self._seen = 0
        """A file that was found once, for links to it."""

    async def run(self, client: Client) -> None:
        """Work until told to stop."""
        if self._under_way is not None:
            self._history.abandon(self._under_way)
            self._under_way = None
        await self._find_places(client)
        while not self.is_stopping:
            await self._think()
            op = self._choose()
            if op is not None:
                await self._do(client, op)
            self._count_step()

    async def _find_places(self, client: Client) -> None:
        count = self._history.directory_count
        self._directories = await directories_at(client, PLACE, count)

    # ------------------------------------------------------------ what to do

    def _choose(self) -> Op | Access | None:
        [kind] = self._random.choices(list(WEIGHTS), list(WEIGHTS.values()))
        if kind == "register":
            return self._choose_access()
        slot, other = self._random.sample(self._slots(), 2)
        if kind == "list":
            return Op(kind, slot // len(NAMES))
        if kind == "rename":
            flags = self._random.choice((0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE))
            return Op(kind, slot, other, flags=flags)
        if kind == "link":
            return Op(kind, slot, value=self._seen) if self._seen else None
        return Op(kind, slot)

    def _slots(self) -> range:
        """Names to choose from: all, or those of the directory where it stays."""
        if self._random.random() >= self._stay_chance:
            self._stay = self._random.randrange(len(self._directories))
            return range(len(NAMES) * len(self._directories))
        return range(len(NAMES) * self._stay, len(NAMES) * (self._stay + 1))

    def _choose_access(self) -> Access:
        """Each file is read through one client and written through the others: a client sees its
        own bytes before they are synced."""
        register = self._random.randrange(len(REGISTER_SIZES))
        if register % self._client_count == self._client_number:
            return Access("read", register)
        return Access("write", register, 1000 * (self.steps_done + 1) + self._number)

    async def _do(self, client: Client, op: Op | Access) -> None:
        """Do it, and keep what was told."""
        number = self._under_way = self._history.call(op)
        self._note(f"{number} {op} …")
        if isinstance(op, Access):
            told: Answer | int = await self._access(client, op)
        else:
            told = await self._ask(client, op)
        self._history.answer(number, told)
        self._note(f"{number}: {told}")
        self._under_way = None

    # ------------------------------------------------------------ names

    async def _ask(self, client: Client, op: Op) -> Answer:
        try:
            return await self._perform(client, op)
        except FsError as error:
            return Answer(error.errno)

    async def _perform(self, client: Client, op: Op) -> Answer:
        if op.kind == "list":
            entries = await read_entries(client, self._directories[op.slot])
            there = {name: _value(inode) for name, inode in entries}
            return Answer(0, listed=tuple(there.get(each, 0) for each in NAMES))
        parent, name = self._place(op.slot)
        if self._random.random() < PERMISSION_CHECK_SHARE:
            await client.getattr(parent)
        if op.kind in ("create", "mkdir"):
            return Answer(0, await self._make(client, op.kind, parent, name))
        if op.kind in ("lookup", "stat"):
            inode = await client.lookup(parent, name)
            self._seen = self._seen if inode.is_directory else _value(inode)
            return Answer(0, _value(inode), inode.nlink if op.kind == "stat" else 0)
        if op.kind == "rename":
            await client.rename(parent, name, *self._place(op.other), op.flags, ROOT_USER)
        elif op.kind == "link":
            assert not is_directory(op.value)
            await client.link(InodeId(op.value // 2), parent, name, ROOT_USER)
        else:
            remove = client.unlink if op.kind == "unlink" else client.rmdir
            await remove(parent, name, ROOT_USER)
        return Answer(0)

    async def _make(self, client: Client, kind: str, parent: InodeId, name: bytes) -> int:
        if kind == "mkdir":
            return _value(await client.mkdir(parent, name, 0o755, ROOT_USER))
        handle, inode = await client.create(parent, name, 0o644, ROOT_USER, flags=NEW_FILE)
        await client.release(handle)
        return _value(inode)

    def _place(self, slot: int) -> tuple[InodeId, bytes]:
        directory, name = divmod(slot, len(NAMES))
        return self._directories[directory], NAMES[name]

    # ------------------------------------------------------------ small files

    async def _access(self, client: Client, access: Access) -> int:
        """The value that was written or found."""
        size = REGISTER_SIZES[access.register]
        place = await directories_at(client, b"registers", 1)
        handle = await open_at(client, place[0], b"r%d" % access.register, os.O_RDWR)
        try:
            if access.kind == "read":
                return _decoded(bytes(await client.read(handle, 0, size + 1)), size)
            await client.write(handle, 0, _encoded(access.value, size))
            await (client.fsync if self._random.random() < 0.5 else client.flush)(handle)
            return access.value
        finally:
            await client.release(handle)

    # ------------------------------------------------------------ seen by others

    async def check_seen_by(self, client: Client) -> None:
        """Another client's look is more ops of the history, when nothing else is under way."""
        await self._find_places(client)
        looks: list[Op | Access] = [Op("list", each) for each in range(len(self._directories))]
        looks += [Access("read", each) for each in range(len(REGISTER_SIZES))]
        for look in looks:
            await self._do(client, look)


def _value(inode: Inode) -> int:
    return value_of(inode.ino, is_directory=inode.is_directory)


def _encoded(value: int, size: int) -> bytes:
    """The value, again and again, so that a mixture of two is noticed."""
    return (b"%015d " % value * (size // 16 + 1))[:size]


def _decoded(found: bytes, size: int) -> int:
    """The value that was written; 0 for an empty file, -1 for bytes that nobody wrote."""
    if not found:
        return 0
    text = found[:15]
    is_whole = text.isdigit() and found == _encoded(int(text), size)
    return int(text) if is_whole else -1
