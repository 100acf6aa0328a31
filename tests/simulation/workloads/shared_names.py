"""A few names that tasks of all clients give to files and take away, one task at a time for each,
and who holds which file open."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.simulation.workloads.kept import Kept

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from dfs.types import InodeId

NOBODY = ""


@dataclass(eq=False)
class SharedName:
    """A name, and the file that it leads to, whose content stays the same while it has a name."""

    kept: Kept = field(default_factory=Kept)
    ino: InodeId | None = None
    owner: str = NOBODY
    """The task that alone may change it now. It stays so when the task's client dies."""


class SharedNames:
    """What all tasks know."""

    def __init__(self, names: Sequence[bytes]) -> None:
        self.names = {name: SharedName() for name in names}
        self.gone: set[InodeId] = set()
        """Files that have lost their name: nobody may find them by it again."""
        self._holders: dict[InodeId, list[str]] = {}
        """Which tasks have a file open; who has it open twice is in it twice."""

    def claim(self, task: str, chooser: random.Random) -> bytes | None:
        """A name that is the task's from now on; None if all are taken."""
        free = [name for name, shared in self.names.items() if shared.owner == NOBODY]
        if not free:
            return None
        name = chooser.choice(free)
        self.names[name].owner = task
        return name

    def free(self, name: bytes) -> None:
        assert self.names[name].kept.is_settled, "nobody knows what it leads to"
        self.names[name].owner = NOBODY

    def claimed_by(self, task: str) -> list[bytes]:
        return [name for name, shared in self.names.items() if shared.owner == task]

    def settle(self, name: bytes, ino: InodeId | None, content: bytes | None) -> None:
        """The name is known to lead there now."""
        shared = self.names[name]
        if shared.ino is not None and shared.ino != ino:
            self.gone.add(shared.ino)
        shared.ino = ino
        shared.kept.settle(content)

    def check(self, name: bytes, ino: InodeId | None) -> str:
        """Why the name cannot lead there, as long as it does not change; empty when it can."""
        shared = self.names[name]
        if shared.kept.is_settled and ino != shared.ino:
            return f"leads to {ino}, not to {shared.ino}"
        return ""

    # ------------------------------------------------------------ open files

    def hold(self, ino: InodeId, task: str) -> None:
        self._holders.setdefault(ino, []).append(task)

    def let_go(self, ino: InodeId, task: str) -> None:
        self._holders[ino].remove(task)

    def forget(self, task: str) -> None:
        """Its client is dead."""
        for holders in self._holders.values():
            holders[:] = [each for each in holders if each != task]

    def is_held(self, ino: InodeId) -> bool:
        return bool(self._holders.get(ino))

    def is_alone_with(self, ino: InodeId, task: str) -> bool:
        """The file has no name, and nobody else has it open: its content is the task's."""
        return self._holders[ino] == [task] and ino in self.gone
