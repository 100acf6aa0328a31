"""A directory so large that it is listed in several pages, while tasks of all clients fill and
empty it.

Each task adds and removes names of its own, many at once, so it is known of every name whether it
is there, or when that was in doubt. A name that is there all the time while someone lists must be
listed exactly once, one that comes or goes meanwhile at most once, others never (readdir(3)); and
this must hold though whoever lists goes back to an earlier entry (seekdir(3)). While any name is
there rmdir must refuse; in the end everything is removed, and rmdir must succeed.

Catches pages that do not fit together, names that are listed after they were removed or not after
they were added (I4), and adding or removing that was done twice or not at all (I8, I3).
"""

from __future__ import annotations

import errno
import stat
from typing import TYPE_CHECKING

import trio

from dfs.client import directory as product
from dfs.errors import FsError
from dfs.types import ROOT
from tests.simulation.options import Count, WorkloadOptions
from tests.simulation.workloads.crowd_state import Crowd
from tests.simulation.workloads.observe import ROOT_USER, exists
from tests.simulation.workloads.places import FILE_MODE, directory_at, errno_of, open_at
from tests.simulation.workloads.workload import Stepper
from tests.simulation.world import Violation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from dfs.client.client import Client
    from dfs.types import InodeId
    from tests.simulation.workloads.workload import Site

PLACE = b"crowd"
BASE_NAME = b"crowd base"
CALLS_AT_ONCE = 16


class CrowdOptions(WorkloadOptions):
    """The table `workloads.crowd`."""

    names: Count = 100
    """About as many as each task keeps in the directory."""


def make_crowd_keepers(site: Site, options: CrowdOptions) -> list[CrowdKeeper]:
    """One client's; those of all clients share one directory."""
    crowd = site.shared.get("crowd", Crowd, lambda _crowd: "")
    numbers = site.numbers(options.per_client)
    return [CrowdKeeper(site, number, crowd, options) for number in numbers]


class CrowdKeeper(Stepper):
    """One task. Outlives the clients that it works through."""

    is_observable = True

    def __init__(self, site: Site, number: int, crowd: Crowd, options: CrowdOptions) -> None:
        super().__init__(site, f"k{number}", options.pause_s)
        self._number = number
        self._crowd = crowd
        crowd.keepers[self.name] = None
        self._goal = options.names
        self._count = 0
        """Names that this task has made up."""
        self._directory: InodeId
        self._base: InodeId
        """What many names are links to."""

    async def run(self, client: Client) -> None:
        """Work until told to stop; then its names are gone, and perhaps the directory."""
        if self._crowd.is_removed:
            return
        await self._begin(client)
        while not self.is_stopping:
            await self._think()
            await self._act(client)
            self._count_step()
        await self._remove(client, self._crowd.names_of(self._number))
        await self._leave(client)

    async def _begin(self, client: Client) -> None:
        """Find the place, and what became of names that were in doubt when the last client died."""
        self._directory = await directory_at(client, PLACE)
        base = await open_at(client, ROOT, BASE_NAME + b" %d" % self._number, 0)
        self._base = base.inode.ino
        await client.release(base)
        doubtful = self._crowd.doubtful_of(self._number)
        self._note(f"{len(doubtful)} names are in doubt")
        await self._each(client, doubtful, self._look_up)

    async def _act(self, client: Client) -> None:
        own = self._crowd.names_of(self._number)
        count = self._random.randint(1, self._goal // 3 + 1)
        action = self._random.choices(("change", "list", "rmdir"), (6, 3, 1))[0]
        if self._count == 0:
            await self._add(client, self._goal)
        elif action == "list":
            await self._list(client, self._directory)
        elif action == "rmdir" and own:
            number = await errno_of(client.rmdir(ROOT, PLACE, ROOT_USER))
            self._expect(number, errno.ENOTEMPTY, PLACE)
        elif self._random.random() < len(own) / (2 * self._goal):
            await self._remove(client, self._random.sample(own, min(count, len(own))))
        else:
            await self._add(client, count)

    # ------------------------------------------------------------ coming and going

    async def _add(self, client: Client, count: int) -> None:
        first, self._count = self._count, self._count + count
        names = [b"%s %d %d" % (self._mark(), self._number, n) for n in range(first, first + count)]
        self._note(f"adds {len(names)} names")
        await self._each(client, names, self._add_one)

    def _mark(self) -> bytes:
        """Names of all tasks are mixed with each other."""
        return b"%02x" % self._random.randrange(256)

    async def _remove(self, client: Client, names: Sequence[bytes]) -> None:
        self._note(f"removes {len(names)} names")
        await self._each(client, names, self._remove_one)

    async def _each(
        self,
        client: Client,
        names: Sequence[bytes],
        act: Callable[[Client, bytes], Awaitable[None]],
    ) -> None:
        """Do it to every name, many at once."""
        waiting = list(names)

        async def work() -> None:
            while waiting:
                await act(client, waiting.pop())

        async with trio.open_nursery() as nursery:
            for _ in range(min(CALLS_AT_ONCE, len(waiting))):
                nursery.start_soon(work)

    async def _add_one(self, client: Client, name: bytes) -> None:
        """By a link, a symlink or a node: each is one message."""
        parent, kind = self._directory, self._random.randrange(8)
        self._crowd.doubt(name, self._number)
        call: Awaitable[object]
        if kind == 0:
            call = client.mknod(parent, name, stat.S_IFIFO | FILE_MODE, 0, ROOT_USER)
        elif kind == 1:
            call = client.symlink(parent, name, b"nowhere", ROOT_USER)
        else:
            call = client.link(self._base, parent, name, ROOT_USER)
        self._expect(await errno_of(call), 0, name)
        self._crowd.settle(name, self._number, is_there=True)

    async def _remove_one(self, client: Client, name: bytes) -> None:
        self._crowd.doubt(name, self._number)
        self._expect(await errno_of(client.unlink(self._directory, name, ROOT_USER)), 0, name)
        self._crowd.settle(name, self._number, is_there=False)

    async def _look_up(self, client: Client, name: bytes) -> None:
        found = await exists(client, self._directory, name)
        self._crowd.settle(name, self._number, is_there=found is not None)

    def _expect(self, number: int, right: int, name: bytes) -> None:
        if number != right:
            raise Violation(f"{self.name}: {name!r}: errno {number}, not {right} (I8)")

    # ------------------------------------------------------------ the whole

    async def _list(self, client: Client, directory: InodeId) -> None:
        """All names must fit to what is known of them."""
        with self._crowd.listing() as listing:
            names = await self._names(client, directory)
            problem = listing.check(names)
        if problem:
            raise Violation(f"{self.name}: of {len(names)} listed names, {problem} (I4)")
        self._note(f"listed {len(names)} names")

    async def _names(self, client: Client, directory: InodeId) -> list[bytes]:
        """By one open directory, with a pause somewhere, and a step back where that is exact."""
        handle = await client.open_directory(directory)
        back_max = (product.DIRECTORY_PAGES_KEPT - 1) * product.READDIR_ENTRIES_MAX
        pause_at = self._random.randrange(2 * self._goal)
        found: list[bytes] = []
        async for name, _, cookie in client.read_directory(handle):
            found.append(name)
            assert cookie == len(found), "cookies count entries"
            if cookie == pause_at:
                break
        if len(found) == pause_at:
            await self._think()
            del found[len(found) - self._random.randint(0, min(back_max, len(found))) :]
            rest = client.read_directory(handle, len(found))
            found += [name async for name, _, _ in rest]
        await client.release_directory(handle)
        return found

    async def _leave(self, client: Client) -> None:
        """The last one removes the directory."""
        links = (await client.getattr(self._base)).nlink
        if links != 1:
            raise Violation(f"{self.name}: all its names are removed, but {links} links left (I6)")
        self._crowd.keepers.pop(self.name, None)
        if self._crowd.keepers:
            return
        number = await errno_of(client.rmdir(ROOT, PLACE, ROOT_USER))
        if number not in (0, errno.ENOENT):
            raise Violation(f"{self.name}: all names are removed, but rmdir answers {number} (I6)")
        self._crowd.is_removed = True

    async def check_seen_by(self, client: Client) -> None:
        """Another client's listing fits; in the end there is no directory."""
        was_removed = self._crowd.is_removed
        found = await exists(client, ROOT, PLACE)
        if was_removed and found is not None:
            raise Violation(f"{self.name}: the directory is removed, but others see it (I4)")
        if found is None:
            return
        try:
            await self._list(client, found.ino)
        except FsError as error:
            if self._crowd.keepers or error.errno not in (errno.ENOENT, errno.ESTALE):
                raise
