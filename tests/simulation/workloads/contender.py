"""Tasks of all clients contend for a few names in one directory; everything that they are told goes
into one history, which must be explicable by one order (`checkers/history.py`).
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from dfs.errors import FsError
from dfs.types import ROOT, InodeId
from tests.simulation.checkers.history import Answer, History, Op, check_history
from tests.simulation.options import WorkloadOptions
from tests.simulation.workloads.observe import ROOT_USER, exists, read_entries
from tests.simulation.workloads.workload import Stepper

if TYPE_CHECKING:
    from dfs.client.client import Client
    from tests.simulation.workloads.workload import Site

DIRECTORY_NAME = b"contended"
NAMES = (b"a", b"b", b"c")
KINDS = ("create", "unlink", "lookup", "rename", "link", "list")
WEIGHTS = (6, 4, 3, 4, 2, 2)


class ContenderOptions(WorkloadOptions):
    """The table `workloads.contender`."""


def make_contenders(site: Site, options: ContenderOptions) -> list[Contender]:
    """One client's; those of all clients share one history."""
    history = site.shared.get("history", lambda: History(len(NAMES)), check_history)
    numbers = site.numbers(options.per_client)
    return [Contender(site, number, history, options) for number in numbers]


class Contender(Stepper):
    """One task. Outlives the clients that it works through."""

    def __init__(
        self, site: Site, number: int, history: History, options: ContenderOptions
    ) -> None:
        super().__init__(site, f"c{number}", options.pause_s)
        self._history = history
        self._under_way: int | None = None
        self._seen_ino = 0

    async def run(self, client: Client) -> None:
        """Work until told to stop."""
        if self._under_way is not None:
            self._history.abandon(self._under_way)
            self._under_way = None
        directory = await self._directory(client)
        while not self.is_stopping:
            await self._think()
            await self._act(client, directory)
            self._count_step()

    async def _directory(self, client: Client) -> InodeId:
        while True:
            found = await exists(client, ROOT, DIRECTORY_NAME)
            if found is not None:
                return found.ino
            try:
                return (await client.mkdir(ROOT, DIRECTORY_NAME, 0o755, ROOT_USER)).ino
            except FsError as error:
                self._note(f"someone else made it: {error}")

    async def _act(self, client: Client, directory: InodeId) -> None:
        [kind] = self._random.choices(KINDS, WEIGHTS)
        name, other = self._random.sample(range(len(NAMES)), 2)
        op = Op(kind, name, other if kind == "rename" else 0)
        if kind == "link":
            op = op._replace(ino=self._seen_ino)
            if not op.ino:
                return
        self._under_way = self._history.call(op)
        self._note(f"{self._under_way} {op} …")
        try:
            answer = await self._perform(client, directory, op)
        except FsError as error:
            answer = Answer(error.errno)
        self._history.answer(self._under_way, answer)
        self._note(f"{self._under_way}: {answer}")
        self._under_way = None

    async def _perform(self, client: Client, directory: InodeId, op: Op) -> Answer:
        name = NAMES[op.name]
        if op.kind == "create":
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
            mode = stat.S_IFREG | 0o644
            handle, inode = await client.create(directory, name, mode, ROOT_USER, flags=flags)
            await client.release(handle)
            return Answer(0, inode.ino)
        if op.kind == "lookup":
            self._seen_ino = (await client.lookup(directory, name)).ino
            return Answer(0, self._seen_ino)
        if op.kind == "unlink":
            await client.unlink(directory, name, ROOT_USER)
        elif op.kind == "rename":
            await client.rename(directory, name, directory, NAMES[op.other], 0, ROOT_USER)
        elif op.kind == "link":
            await client.link(InodeId(op.ino), directory, name, ROOT_USER)
        else:
            entries = {found: inode.ino for found, inode in await read_entries(client, directory)}
            return Answer(0, listed=tuple(entries.get(each, 0) for each in NAMES))
        return Answer(0)

    async def check_seen_by(self, client: Client) -> None:
        """Another client's look is one more op of the history, when nothing else is under way."""
        op = Op("list")
        number = self._history.call(op)
        answer = await self._perform(client, await self._directory(client), op)
        self._history.answer(number, answer)
