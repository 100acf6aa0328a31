"""Everyone gives signals by small changes of names and attributes, and watches those of the others.

A signal counts: it was raised so often before a look began, and no more often when the look ended.
A look that finds less was answered from something that should have been forgotten, one that finds
more is impossible (I4). Looks come often and changes seldom, so that most looks are answered from
memory, while what they look at changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from dfs.errors import DfsError, FsError
from tests.simulation.options import Positive, Share, WorkloadOptions
from tests.simulation.workloads.observe import ROOT_USER, exists, read_entries
from tests.simulation.workloads.places import directories_at, open_at
from tests.simulation.workloads.workload import Stepper
from tests.simulation.world import Violation

if TYPE_CHECKING:
    from dfs.client.client import Client
    from dfs.types import InodeId
    from tests.simulation.workloads.workload import Site

FlagLook = Literal["lookup", "links", "list"]

PLACE = b"signals"
CLOCK_NS = 1_000_000_000
"""A raised clock shows so many nanoseconds more."""


class SignallerOptions(WorkloadOptions):
    """The table `workloads.signaller`."""

    pause_s: Positive = 0.01
    raise_chance: Share = 0.1
    """How many of the steps are no looks."""
    flag_looks: tuple[FlagLook, ...] = ("lookup", "links", "list")
    """How flags are looked at. Who never lists need not ask the server for anything."""


class Signal:
    """A number that only one signaller changes. `raised` lies between what looks may find."""

    def __init__(self, kind: str, directory: InodeId, name: bytes, base: InodeId) -> None:
        self.kind = kind
        self.directory = directory
        self.name = name
        self.base = base
        self.begun = self.done = 0


class Board:
    """All signals that can be trusted: those whose last change has an outcome."""

    def __init__(self) -> None:
        self.signals: list[Signal] = []


def make_signallers(site: Site, options: SignallerOptions) -> list[Signaller]:
    """One client's; all share one board."""
    board = site.shared.get("signals", Board, lambda _: "")
    return [Signaller(site, number, board, options) for number in site.numbers(options.per_client)]


class Signaller(Stepper):
    """One task. Outlives the clients that it works through."""

    def __init__(self, site: Site, number: int, board: Board, options: SignallerOptions) -> None:
        super().__init__(site, f"s{number}", options.pause_s)
        self._number = number
        self._board = board
        self._raise_chance = options.raise_chance
        self._flag_looks = options.flag_looks
        self._mine: list[Signal] = []
        self._made_count = 0

    async def run(self, client: Client) -> None:
        """Work until told to stop."""
        self._give_up()
        while not self.is_stopping:
            await self._think()
            try:
                await self._step(client)
            except FsError as error:
                raise Violation(f"{self.name}: {error}") from error
            except DfsError as error:
                self._note(f"nobody knows what became of it: {error}")
                self._give_up()
            self._count_step()

    def _give_up(self) -> None:
        """What was under way when the client died may still happen: nobody looks there again."""
        for signal in self._mine:
            self._board.signals.remove(signal)
        self._mine = []

    async def _step(self, client: Client) -> None:
        if not self._mine:
            await self._make(client)
        elif self._random.random() < self._raise_chance:
            await self._raise(client, self._random.choice(self._mine))
        else:
            await self._look(client, self._random.choice(self._board.signals))

    async def _make(self, client: Client) -> None:
        """A file with a clock, and a flag beside it: one more name for the file."""
        directories = await directories_at(client, PLACE, 2)
        directory = directories[self._number % 2]
        self._made_count += 1
        name = b"%d-%d" % (self._number, self._made_count)
        handle = await open_at(client, directory, b"base " + name, 0)
        base = handle.inode.ino
        await client.release(handle)
        await client.setattr(base, ROOT_USER, mtime_ns=0)
        self._mine = [Signal(kind, directory, name, base) for kind in ("flag", "clock")]
        self._board.signals += self._mine

    async def _raise(self, client: Client, signal: Signal) -> None:
        signal.begun += 1
        self._note(f"{signal.kind} {signal.name!r} → {signal.begun} …")
        if signal.kind == "clock":
            mtime_ns = CLOCK_NS * signal.begun
            await client.setattr(signal.base, ROOT_USER, mtime_ns=mtime_ns)
        elif signal.begun % 2:
            await client.link(signal.base, signal.directory, signal.name, ROOT_USER)
        else:
            await client.unlink(signal.directory, signal.name, ROOT_USER)
        signal.done += 1
        self._note(f"{signal.kind} {signal.name!r} is {signal.done}")

    async def _look(self, client: Client, signal: Signal) -> None:
        least = signal.done
        if signal.kind == "clock":
            inode = await client.getattr(signal.base)
            found = range(inode.mtime_ns // CLOCK_NS, inode.mtime_ns // CLOCK_NS + 1)
            how = "getattr"
        else:
            how = self._random.choice(self._flag_looks)
            is_up = await self._sees_flag(client, signal, how)
            found = range(least + (least % 2 != is_up), signal.begun + 1, 2)
        if not any(least <= value <= signal.begun for value in found):
            shown = found.start if signal.kind == "clock" else "the other"
            raise Violation(
                f"{self.name}: {how} shows {shown} for {signal.kind} {signal.name!r}, which was "
                f"{least} to {signal.begun} (I4)"
            )

    async def _sees_flag(self, client: Client, signal: Signal, how: FlagLook) -> bool:
        if how == "lookup":
            return await exists(client, signal.directory, signal.name) is not None
        if how == "links":
            return (await client.getattr(signal.base)).nlink == 2
        return signal.name in [name for name, _ in await read_entries(client, signal.directory)]

    async def check_seen_by(self, client: Client) -> None:
        """All signals are what they are, and nobody changes them now."""
        for signal in list(self._mine):
            await self._look(client, signal)
