"""The core's side of the comparison with Linux: a volume, what is held open in it, and paths to
walk."""

from __future__ import annotations

import errno
import stat
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from dfs.core.namespace.directories import find, read_directory, walk_to
from dfs.core.namespace.ops import SetAttr
from dfs.errors import FsError
from dfs.types import ROOT, BlockId, Credentials, InodeId
from tests.property.local_directory import LocalDirectory, Spot
from tests.unit.core.namespace.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dfs.core.namespace.directories import Place
    from dfs.core.namespace.records import Inode


class Skip(Exception):
    """This command says nothing here."""


class Model:
    """The volume, and what is held open in it."""

    def __init__(self, mode: int) -> None:
        self.volume = Volume()
        self.volume.do(SetAttr, ino=ROOT, mode=mode)
        self.directories: dict[int, InodeId] = {}
        self.files: dict[int, InodeId] = {}
        self.blocks: dict[BlockId, bytes] = {}

    def held(self) -> frozenset[InodeId]:
        return frozenset(self.directories.values()) | frozenset(self.files.values())

    def reclaim(self) -> None:
        """Takes apart every orphan that nothing holds, as the metadata server does."""
        for key in [k for k in self.volume.records if k[2:3] == b"O"]:
            ino = InodeId(int.from_bytes(key[3:], "big"))
            if ino not in self.held():
                self.volume.reclaim(ino)

    def below(self, top: InodeId) -> Iterator[tuple[tuple[bytes, ...], Inode]]:
        """Every path below a directory, in order, with what is there."""
        for name, inode in read_directory(self.volume, top, b"", 1000):
            yield (name,), inode
            if inode.is_directory:
                for path, deeper in self.below(inode.ino):
                    yield (name, *path), deeper

    def place(self, at: At | Pick, who: Credentials) -> Place:
        """Walks the path as the user, to its last name."""
        assert isinstance(at, At)
        ino = ROOT if at.base is None else self.directories[at.base]
        for name in at.names[:-1]:
            directory = walk_to(self.volume, ino, who)
            inode = find(self.volume, directory, name).inode
            if inode is None:
                raise FsError(errno.ENOENT)
            if inode.is_symlink:
                raise Skip
            ino = inode.ino
        return find(self.volume, walk_to(self.volume, ino, who), at.names[-1])

    def parent(self, at: At | Pick, who: Credentials) -> InodeId:
        """The directory of the last name. What is wrong with that name is left to the op to say."""
        assert isinstance(at, At)
        plain = At(at.base, (*at.names[:-1], b"plain"))
        try:
            return self.place(plain, who).directory.ino
        except FsError:
            if len(at.names) == 1:
                # The base itself refuses, and so will the op.
                return ROOT if at.base is None else self.directories[at.base]
            raise

    def target(self, at: At | Pick, who: Credentials) -> Inode:
        inode = self.place(at, who).inode
        if inode is None:
            raise FsError(errno.ENOENT)
        return inode


@dataclass(frozen=True)
class At:
    """A path: from the top, or from a directory that is held open."""

    base: int | None
    names: tuple[bytes, ...]


@dataclass(frozen=True)
class Pick:
    """A path to be chosen among what is there when its command runs, so that most commands hit
    something."""

    number: int
    name: bytes | None = None
    """A name in an existing directory, whether it is there or not. None: an existing object."""
    slot: int | None = None
    """Start from this held directory if there is one, though it may have been removed."""
    wants: int = 0
    """Prefer objects of this type (S_IFMT)."""

    def resolve(self, model: Model) -> At:
        base = self.slot if self.slot in model.directories else None
        top = ROOT if base is None else model.directories[base]
        found = list(model.below(top))
        if self.name is not None:
            directories = [(), *(path for path, inode in found if inode.is_directory)]
            return At(base, (*directories[self.number % len(directories)], self.name))
        wanted = [p for p, inode in found if self.wants in (0, stat.S_IFMT(inode.mode))]
        paths = wanted or [path for path, _ in found] or [(b"a",)]
        return At(base, paths[self.number % len(paths)])


@dataclass(frozen=True)
class Command(ABC):
    who: Credentials

    def resolved(self, model: Model) -> Self:
        """The command with every Pick settled."""
        picks = {k: v.resolve(model) for k, v in vars(self).items() if isinstance(v, Pick)}
        return replace(self, **picks)

    @abstractmethod
    def model(self, model: Model) -> object:
        """Do it in the model. Raises FsError."""

    @abstractmethod
    def local(self, local: LocalDirectory) -> object:
        """Do it in a local directory. Raises OSError."""


def spot_of(at: At | Pick, local: LocalDirectory) -> Spot:
    assert isinstance(at, At)
    fd = local.root_fd if at.base is None else local.directories[at.base]
    return Spot(fd, b"/".join(at.names))
