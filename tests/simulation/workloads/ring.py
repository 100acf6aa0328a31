"""Tasks of all clients rotate the names of a ring of files through several directories; no file may
ever be missing, or be there twice.

Nothing is made and nothing removed, so however the renames of several clients come between each
other, the ring stays complete. Each file's content and an extended attribute say which it is. The
slots of the ring are of three kinds:

| slots | what happens to them | what must hold |
|---|---|---|
| exchanged | anybody exchanges any two (RENAME_EXCHANGE) | all names are there, all succeed |
| moving | anybody takes one away, and puts it where none is | it stays in hand meanwhile |
| claimed | one task at a time turns some, step by step | exactly its file is at each name |

Catches a rename that is done twice, half, or not at all (I8, I3), one that replaces what it must
not, and contents or attributes that do not follow their file (I4, I5).
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import trio

from tests.simulation.options import Count, WorkloadOptions
from tests.simulation.workloads.observe import ROOT_USER, exists, read_entries, read_file
from tests.simulation.workloads.places import directories_at, errno_of, open_at
from tests.simulation.workloads.ring_turns import PLACEHOLDER, Place, Ring, Turn, choose_turn
from tests.simulation.workloads.tree import RENAME_EXCHANGE, RENAME_NOREPLACE
from tests.simulation.workloads.workload import Stepper
from tests.simulation.world import Violation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dfs.client.client import Client
    from dfs.core.namespace.records import Inode
    from dfs.types import InodeId
    from tests.simulation.workloads.workload import Site

PLACE = b"ring"
XATTR = b"user.identity"
LOOK_PATIENCE_S = 5.0
PUT_PAUSE_S = 0.02


class RingOptions(WorkloadOptions):
    """The table `workloads.ring`."""

    directories: Count = 3
    slots_of_each_kind: Count = 4


def make_ring_turners(site: Site, options: RingOptions) -> list[RingTurner]:
    """One client's; those of all clients share one ring."""
    ring = site.shared.get(
        "ring", lambda: Ring(options.directories, options.slots_of_each_kind), lambda _ring: ""
    )
    numbers = site.numbers(options.per_client)
    return [RingTurner(site, number, ring, options) for number in numbers]


class RingTurner(Stepper):
    """One task. Outlives the clients that it works through."""

    is_observable = True

    def __init__(self, site: Site, number: int, ring: Ring, options: RingOptions) -> None:
        super().__init__(site, f"r{number}", options.pause_s)
        self._ring = ring
        self._directories: Sequence[InodeId] = ()
        self._hand = Place(number % ring.directory_count, b"hand%d" % number)
        """The name under which this task takes a moving file away."""
        self._spare = Place((number + 1) % ring.directory_count, b"spare%d" % number)
        self._turn: Turn | None = None

    async def run(self, client: Client) -> None:
        """Work until told to stop; then nothing is in hand."""
        async with self._ring.making:
            await self._make(client)
        await self._finish(client)
        while not self.is_stopping:
            await self._think()
            while not self._ring.may_turn.is_set():
                await self._ring.may_turn.wait()
            self._ring.turn(self.name)
            await self._act(client)
            self._ring.rest(self.name)
            self._count_step()

    async def _make(self, client: Client) -> None:
        """Whatever of the ring is not there yet."""
        ring = self._ring
        self._directories = await directories_at(client, PLACE, ring.directory_count)
        for identity, place in enumerate(ring.places):
            if identity not in ring.inos:
                parent, name = self._at(place)
                handle = await open_at(client, parent, name, os.O_RDWR)
                await client.write(handle, 0, text_of(identity))
                await client.flush(handle)
                await client.setxattr(handle.inode.ino, XATTR, text_of(identity), 0, ROOT_USER)
                ring.inos[identity] = handle.inode.ino
                await client.release(handle)

    async def _finish(self, client: Client) -> None:
        """End what was under way when the last client died."""
        if self._turn is not None:
            await self._check_turn(client, self._turn)
            await self._go_on(client, self._turn)
        found = await exists(client, *self._at(self._hand))
        if found is not None and found.ino in self._ring.inos.values():
            await self._put(client)
        elif found is not None:
            await client.unlink(*self._at(self._hand), ROOT_USER)
        self._ring.rest(self.name)

    async def _act(self, client: Client) -> None:
        action = self._random.choices(("exchange", "move", "turn", "read"), (4, 3, 4, 4))[0]
        if action == "exchange":
            await self._exchange(client)
        elif action == "move":
            if await self._take(client):
                await self._think()
                await self._put(client)
        elif action == "turn":
            await self._begin_turn(client)
        else:
            await self._read(client)

    async def _rename(self, client: Client, source: Place, target: Place, flags: int) -> int:
        self._note(f"{source} → {target}, flags {flags} …")
        call = client.rename(*self._at(source), *self._at(target), flags, ROOT_USER)
        number = await errno_of(call)
        self._note(f"{source} → {target}: {number}")
        return number

    def _at(self, place: Place) -> tuple[InodeId, bytes]:
        return self._directories[place.directory], place.name

    # ------------------------------------------------------------ slots of the three kinds

    async def _exchange(self, client: Client) -> None:
        source, target = self._random.sample(self._ring.exchanged, 2)
        number = await self._rename(client, source, target, RENAME_EXCHANGE)
        if number:
            raise Violation(f"{self.name}: exchanging {source} and {target}: errno {number}")

    async def _take(self, client: Client) -> bool:
        """Take a moving file away; sometimes over a file of no worth."""
        source, flags = self._random.choice(self._ring.moving), RENAME_NOREPLACE
        if self._random.random() < 0.4:
            flags = 0
            await client.release(await open_at(client, *self._at(self._hand), os.O_RDWR))
        number = await self._rename(client, source, self._hand, flags)
        if number not in (0, errno.ENOENT):
            raise Violation(f"{self.name}: taking {source}: errno {number}")
        if number and not flags:
            await client.unlink(*self._at(self._hand), ROOT_USER)
        return number == 0

    async def _put(self, client: Client) -> None:
        """Put what is in hand where nothing is."""
        while True:
            target = self._random.choice(self._ring.moving)
            number = await self._rename(client, self._hand, target, RENAME_NOREPLACE)
            if number == 0:
                return
            if number != errno.EEXIST:
                raise Violation(f"{self.name}: putting {target}, which is in hand: errno {number}")
            await trio.sleep(PUT_PAUSE_S)

    async def _begin_turn(self, client: Client) -> None:
        free = list(self._ring.claimed)
        if len(free) < 3:
            return
        places = self._random.sample(free, 3)
        there = {place: self._ring.claimed.pop(place) for place in places}
        self._turn = choose_turn(self._random, there, self._spare)
        await self._go_on(client, self._turn)

    async def _go_on(self, client: Client, turn: Turn) -> None:
        """Do the steps that are left, each of which must succeed; then the places are free."""
        while turn.steps:
            source, target, flags = turn.begin()
            if source == target:
                await client.release(await open_at(client, *self._at(source), os.O_RDWR))
            else:
                number = await self._rename(client, source, target, flags)
                if number:
                    raise Violation(f"{self.name}: {source} → {target}: errno {number}")
            turn.end()
        await self._check_turn(client, turn)
        self._ring.claimed.update(turn.there)
        self._turn = None

    async def _check_turn(self, client: Client, turn: Turn) -> None:
        """Only this task uses these names: it knows what is there."""
        found: dict[Place, int] = {}
        identities = {ino: identity for identity, ino in self._ring.inos.items()}
        for place in turn.places:
            inode = await exists(client, *self._at(place))
            if inode is not None:
                found[place] = identities.get(inode.ino, PLACEHOLDER)
        problem = turn.resolve(found)
        if problem:
            raise Violation(f"{self.name}: {problem}")

    # ------------------------------------------------------------ what is there

    async def _read(self, client: Client) -> None:
        """A name leads to a whole file; those that are only exchanged are always there."""
        place = self._random.choice(self._ring.places)
        inode = await exists(client, *self._at(place))
        if inode is not None:
            await self._check_file(client, place.name, inode)
        elif place in self._ring.exchanged:
            raise Violation(f"{self.name}: {place} is gone, but was only ever exchanged")

    async def _check_file(self, client: Client, name: bytes, inode: Inode) -> None:
        identities = [each for each, ino in self._ring.inos.items() if ino == inode.ino]
        if not identities:
            return
        right = text_of(identities[0])
        content, value = await read_file(client, inode.ino), await client.getxattr(inode.ino, XATTR)
        if (content, value, inode.nlink) != (right, right, 1):
            found = f"{content!r}, {value!r}, {inode.nlink} links"
            raise Violation(f"{self.name}: {name!r} is {identities[0]}, but holds {found}")

    async def check_seen_by(self, client: Client) -> None:
        """Another client finds the ring complete, at a moment when nobody turns it."""
        ring = self._ring
        ring.may_turn = trio.Event()
        try:
            with trio.move_on_after(LOOK_PATIENCE_S):
                await ring.is_resting.wait()
            if ring.busy or len(ring.inos) < len(ring.places):
                self._note("the ring cannot be looked at: someone is in the middle of a turn")
                return
            await self._check_ring(client)
        finally:
            ring.may_turn.set()

    async def _check_ring(self, client: Client) -> None:
        found: list[tuple[bytes, Inode]] = []
        for directory in await directories_at(client, PLACE, self._ring.directory_count):
            found += await read_entries(client, directory)
        problem = self._ring.check([(name, inode.ino) for name, inode in found])
        if problem:
            raise Violation(f"{self.name}: the ring as others see it: {problem}")
        for name, inode in found:
            await self._check_file(client, name, inode)
        self._note(f"others see all {len(found)} files of the ring")


def text_of(identity: int) -> bytes:
    """What the file holds."""
    return b"file %d of the ring" % identity
