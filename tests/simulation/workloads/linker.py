"""Tasks of all clients give the same few files more names, rename those over each other, and take
them away again.

Each name is one task's, so every answer about it is known; the files are everybody's. A file's link
count must be the number of its names, as far as ops that are under way leave that open; and through
every name the same bytes are found, which any task may write anew through any of them.

Catches link counts that lose or gain one where two clients' ops meet, or where an op is done twice
or half (I6, I8, I3), a rename of a name over another name of the same file that removes either
(rename(2)), and contents that do not follow their file (I4).
"""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from dfs.types import InodeId
from tests.simulation.options import Count, WorkloadOptions
from tests.simulation.workloads.link_counts import LinkedFiles, text_of
from tests.simulation.workloads.observe import ROOT_USER, exists, read_entries, read_file
from tests.simulation.workloads.places import directories_at, errno_of, open_at
from tests.simulation.workloads.tree import RENAME_EXCHANGE
from tests.simulation.workloads.workload import Stepper
from tests.simulation.world import Violation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dfs.client.client import Client
    from tests.simulation.workloads.workload import Site

PLACE = b"linked"
NAMES_OF_EACH = 6


class LinkerOptions(WorkloadOptions):
    """The table `workloads.linker`."""

    directories: Count = 3
    files: Count = 4


class Name(NamedTuple):
    """A name in one of the directories."""

    directory: int
    name: bytes

    def __str__(self) -> str:
        return f"d{self.directory}/{self.name.decode()}"


Names = dict[Name, int]
"""Which file each name leads to."""


def make_linkers(site: Site, options: LinkerOptions) -> list[Linker]:
    """One client's; those of all clients share the files."""
    files = site.shared.get("linked", lambda: LinkedFiles(options.files), lambda _files: "")
    numbers = site.numbers(options.per_client)
    return [Linker(site, number, files, options) for number in numbers]


class Linker(Stepper):
    """One task. Outlives the clients that it works through."""

    is_observable = True

    def __init__(self, site: Site, number: int, files: LinkedFiles, options: LinkerOptions) -> None:
        super().__init__(site, f"l{number}", options.pause_s)
        self._files = files
        self._directory_count = options.directories
        self._directories: Sequence[InodeId] = ()
        self._all = [
            Name(each % options.directories, b"l%d.%d" % (number, each))
            for each in range(NAMES_OF_EACH)
        ]
        self._names: Names = {}
        self._after: Names | None = None
        """The names if the op under way has happened."""

    async def run(self, client: Client) -> None:
        """Work until told to stop."""
        self._directories = await directories_at(client, PLACE, self._directory_count)
        async with self._files.making:
            await self._make(client)
        await self._recover(client)
        while not self.is_stopping:
            await self._think()
            await self._act(client)
            self._count_step()

    async def _make(self, client: Client) -> None:
        """The files that are not there yet, each under a name that stays."""
        for number in self._files.missing():
            handle = await open_at(client, self._directories[0], b"f%d" % number, os.O_RDWR)
            await client.write(handle, 0, text_of(number, 0))
            await client.flush(handle)
            self._files.add(number, handle.inode.ino)
            await client.release(handle)

    async def _recover(self, client: Client) -> None:
        """The op that was under way when the last client died has happened or not."""
        if self._after is not None:
            found = await self._look(client)
            if found not in (self._names, self._after):
                problem = f"{found}, expected {self._names} or {self._after}"
                raise Violation(f"{self.name} after a crash: {problem} (I3, I8)")
            self._end(has_happened=found == self._after)
        for number in self._files.written_by(self.name):
            found_text = await read_file(client, InodeId(self._files.inos[number]))
            problem = self._files.settle_write(number, self.name, found_text)
            if problem:
                raise Violation(f"{self.name} after a crash: {problem} (I3)")

    async def _look(self, client: Client) -> Names:
        found: Names = {}
        numbers = {ino: number for number, ino in self._files.inos.items()}
        for name in self._all:
            inode = await exists(client, *self._at(name))
            if inode is not None:
                found[name] = numbers[inode.ino]
        return found

    async def _act(self, client: Client) -> None:
        action = self._random.choices(
            ("link", "unlink", "rename", "stat", "write", "read"), (6, 3, 5, 5, 2, 3)
        )[0]
        free = [name for name in self._all if name not in self._names]
        if not self._names or (action == "link" and free):
            await self._link(client, self._random.choice(free))
            return
        name = self._random.choice(list(self._names))
        if action == "unlink":
            await self._unlink(client, name)
        elif action == "rename":
            await self._rename(client, name, self._random.choice(self._all))
        elif action == "write":
            await self._write(client, name)
        elif action == "read":
            await self._read(client, name)
        else:
            await self._stat(client, name)

    def _at(self, name: Name) -> tuple[InodeId, bytes]:
        return self._directories[name.directory], name.name

    # ------------------------------------------------------------ names

    async def _change(self, call: object, after: Names, what: str) -> None:
        """A change of this task's names, which must succeed."""
        self._after = after
        self._files.begin(self.name, _difference(self._names, after))
        self._note(f"{what} …")
        number = await errno_of(call)
        if number:
            raise Violation(f"{self.name}: {what}: errno {number} (I8)")
        self._end(has_happened=True)
        self._note(f"{what}: done")

    def _end(self, *, has_happened: bool) -> None:
        assert self._after is not None
        self._files.end(self.name, has_happened=has_happened)
        self._names = self._after if has_happened else self._names
        self._after = None

    async def _link(self, client: Client, name: Name) -> None:
        number = self._random.choice(list(self._files.inos))
        ino = InodeId(self._files.inos[number])
        call = client.link(ino, *self._at(name), ROOT_USER)
        await self._change(call, {**self._names, name: number}, f"links {number} as {name}")

    async def _unlink(self, client: Client, name: Name) -> None:
        after = {other: number for other, number in self._names.items() if other != name}
        await self._change(client.unlink(*self._at(name), ROOT_USER), after, f"unlinks {name}")

    async def _rename(self, client: Client, name: Name, other: Name) -> None:
        after, flags = dict(self._names), 0
        if other in after and self._random.random() < 0.3:
            flags = RENAME_EXCHANGE
            after[name], after[other] = after[other], after[name]
        elif after.get(other) != after[name]:
            after[other] = after.pop(name)
        call = client.rename(*self._at(name), *self._at(other), flags, ROOT_USER)
        await self._change(call, after, f"renames {name} to {other}, flags {flags}")

    async def _stat(self, client: Client, name: Name) -> None:
        number = self._names[name]
        with self._files.watching(number) as bounds:
            inode = await client.lookup(*self._at(name))
            problem = bounds.check(inode.nlink)
        if inode.ino != self._files.inos[number]:
            problem = f"it is inode {inode.ino}, not {self._files.inos[number]}"
        if problem:
            raise Violation(f"{self.name}: {name} of file {number}: {problem} (I4, I6)")

    # ------------------------------------------------------------ bytes

    async def _write(self, client: Client, name: Name) -> None:
        """New bytes through this name, if nobody else is writing the file."""
        number = self._names[name]
        text = self._files.begin_write(number, self.name)
        if not text:
            return
        self._note(f"writes {number} through {name}: {text[:22]!r}")
        handle = await open_at(client, *self._at(name), os.O_RDWR)
        await client.write(handle, 0, text)
        await (client.fsync if self._random.random() < 0.5 else client.flush)(handle)
        await client.release(handle)
        self._files.end_write(number, self.name)

    async def _read(self, client: Client, name: Name) -> None:
        number = self._names[name]
        await self._check_text(client, number, (await client.lookup(*self._at(name))).ino)

    async def _check_text(self, client: Client, number: int, ino: InodeId) -> None:
        with self._files.reading(number) as reading:
            problem = reading.check(await read_file(client, ino))
        if problem:
            raise Violation(f"{self.name}: file {number}: {problem} (I4)")

    # ------------------------------------------------------------ seen by others

    async def check_seen_by(self, client: Client) -> None:
        """Another client counts the names of every file, and finds its bytes."""
        directories = await directories_at(client, PLACE, self._directory_count)
        for number, ino in list(self._files.inos.items()):
            with self._files.watching(number) as bounds:
                problem = bounds.check((await client.getattr(InodeId(ino))).nlink)
            if problem:
                raise Violation(f"file {number} as others see it: {problem} (I4, I6)")
            await self._check_text(client, number, InodeId(ino))
        if self._files.is_quiet:
            await self._check_names(client, directories)

    async def _check_names(self, client: Client, directories: Sequence[InodeId]) -> None:
        counts: Counter[int] = Counter()
        changes = self._files.change_count
        for directory in directories:
            counts.update(inode.ino for _, inode in await read_entries(client, directory))
        if changes != self._files.change_count:
            return
        problem = self._files.check_names(counts)
        if problem:
            raise Violation(f"names as others see them: {problem} (I4, I6)")
        self._note(f"others see {counts.total()} names")


def _difference(before: Names, after: Names) -> dict[int, int]:
    """By how many names each file has more."""
    more, less = Counter(after.values()), Counter(before.values())
    return {number: more[number] - less[number] for number in more | less}
