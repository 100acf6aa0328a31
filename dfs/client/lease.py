"""What a client knows of one inode that it has leased."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dfs.types import InodeId

if TYPE_CHECKING:
    from dfs.core.namespace.records import Inode

NOTHING: Final = InodeId(0)
"""What a name leads to that is known not to exist."""
ASKED_MAX: Final = 2


class Lease:
    """An inode and, of a directory, names in it. `RecordCache` keeps it."""

    __slots__ = (
        "_asked_count",
        "_asked_max",
        "inode",
        "is_exclusive",
        "is_used",
        "names",
        "parent",
        "present_count",
    )

    def __init__(self) -> None:
        self.inode: Inode | None = None
        self.is_exclusive = False
        self.is_used = True
        """Somebody asked for it since others changed something of it last."""
        self.names: dict[bytes, InodeId] = {}
        self.present_count = 0
        """Names that lead somewhere."""
        self.parent = NOTHING
        """A directory that leads here."""
        self._asked_count = 0
        """Own ops on entries of the directory that could not be done here."""
        self._asked_max = ASKED_MAX
        """How many of them until the entries are wanted exclusively."""

    @property
    def is_complete(self) -> bool:
        """Every name that is not known leads to nothing."""
        inode = self.inode
        return inode is not None and inode.is_directory and self.present_count == inode.size

    @property
    def may_be_wanted(self) -> bool:
        """It could be this client's alone, and is not."""
        return self.inode is not None and not self.is_exclusive

    def wants_more(self) -> bool:
        """One more op had to be asked. Whether to ask for all that is here exclusively: since the
        next op may change that. Where it does not help, as others have leases, ever less often."""
        self._asked_count += 1
        if self._asked_count < self._asked_max:
            return False
        self._asked_count = 0
        self._asked_max *= 2
        return True

    def note_upgraded(self) -> None:
        """It did help."""
        self._asked_count, self._asked_max = 0, 1
