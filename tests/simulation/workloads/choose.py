"""What a writer does next: random, but with few names, so that steps meet each other often."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.workloads.steps import (
    Chmod,
    Create,
    Link,
    Mkdir,
    RemoveXattr,
    Rename,
    Rmdir,
    SetXattr,
    Symlink,
    Truncate,
    Unlink,
)
from tests.simulation.workloads.tree import RENAME_EXCHANGE, RENAME_NOREPLACE

if TYPE_CHECKING:
    import random

    from tests.simulation.workloads.steps import Path, Step
    from tests.simulation.workloads.tree import Tree

NAMES = (b"a", b"b", b"c", b"d", b"e", "ß".encode())
DEPTH_MAX = 3
XATTR_NAMES = (b"user.x", b"user.y")
SHARED_BLOBS = tuple(
    (b"shared blob %d. " % n * 20_000)[: 64 * 1024 * (1 + n % 3)] for n in range(6)
)
"""Contents that several files have, so that blocks are shared, dropped and come back."""
FILE_BYTES_MAX = 400_000


class StepChooser:
    """Chooses from a random source of its own."""

    def __init__(self, source: random.Random, shared_share: float, replace_weight: int) -> None:
        self._random = source
        self._shared_share = shared_share
        self._action_weights = (20, 12, 8, replace_weight, 4, 1)

    def action(self) -> str:
        return self._random.choices(
            ("step", "write", "read", "replace", "close", "fragment"), self._action_weights
        )[0]

    def step(self, tree: Tree) -> Step:
        """A change of the namespace. It may well be refused."""
        kind = self._random.choices(
            (Create, Mkdir, Symlink, Link, Unlink, Rmdir, Rename, Chmod, Truncate, SetXattr),
            (12, 5, 2, 3, 8, 3, 10, 2, 4, 3),
        )[0]
        made = self._make(kind, tree)
        return made if made is not None else Create(self._new_path(tree), 0o644)

    def _make(self, kind: type[Step], tree: Tree) -> Step | None:
        if kind in (Create, Mkdir):
            mode = self._random.choice((0o600, 0o644, 0o755))
            return (Create if kind is Create else Mkdir)(self._new_path(tree), mode)
        if kind is Symlink:
            return Symlink(self._new_path(tree), b"to/" + self._random.choice(NAMES))
        if kind in (Unlink, Rmdir):
            return kind(self._new_path(tree))
        if kind is Rename:
            flags = self._random.choice((0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE))
            return Rename(self._new_path(tree), self._new_path(tree), flags)
        path = self._old_path(tree, is_file=kind is Truncate)
        return None if path is None else self._make_on(kind, path, tree)

    def _make_on(self, kind: type[Step], path: Path, tree: Tree) -> Step | None:
        """A step about what is there already."""
        node = tree.find(path)
        assert node is not None
        if kind is Link:
            return Link(self._new_path(tree), path)
        if kind is Truncate:
            return Truncate(path, self._size(len(node.content)))
        if node.target:
            return None
        if kind is Chmod:
            return Chmod(path, self._random.choice((0o600, 0o640, 0o755)))
        name = self._random.choice(XATTR_NAMES)
        if self._random.random() < 0.3:
            return RemoveXattr(path, name)
        return SetXattr(path, name, self._random.randbytes(self._random.choice((0, 5, 3000))))

    def replacement(self, tree: Tree) -> tuple[Create, Rename]:
        """A new file, and its way over another name."""
        path = self._new_path(tree)
        return Create(path, 0o644), Rename(path, self._new_path(tree), 0)

    def _new_path(self, tree: Tree) -> Path:
        """A name in some directory, taken or not."""
        directories = [p for p, n in tree.walk() if n.is_directory and len(p) < DEPTH_MAX]
        return (*self._random.choice(directories), self._random.choice(NAMES))

    def _old_path(self, tree: Tree, *, is_file: bool) -> Path | None:
        paths = [path for path, node in tree.walk() if path and (node.is_file or not is_file)]
        return self._random.choice(paths) if paths else None

    # ------------------------------------------------------------ bytes

    def writes(self, size: int) -> list[tuple[int, bytes]]:
        """What to write into a file of `size` bytes: offsets and bytes."""
        return [
            (self._offset(size), self._data()) for _ in range(self._random.choice((1, 1, 1, 2, 4)))
        ]

    def fragments(self) -> list[tuple[int, bytes]]:
        """Many small writes far from each other: each becomes an extent of its own."""
        start, stride = self._random.randrange(100_000), self._random.randint(300, 700)
        count = self._random.randint(100, 350)
        return [(start + stride * turn, self._random.randbytes(9)) for turn in range(count)]

    def _offset(self, size: int) -> int:
        limit = FILE_BYTES_MAX // 2
        choices = (0, min(size, limit), self._random.randint(0, min(size, limit)))
        if self._random.random() < 0.1:
            return self._random.randint(0, limit)
        return self._random.choice(choices)

    def _data(self) -> bytes:
        kind = self._random.random()
        if self._random.random() < self._shared_share:
            return self._random.choice(SHARED_BLOBS)
        length = int(2 ** self._random.uniform(0, 17))
        if kind < 0.5:
            line = b"line %d of a file that compresses well\n" % self._random.randrange(1000)
            return (line * (length // len(line) + 1))[:length]
        return self._random.randbytes(length)

    def _size(self, size: int) -> int:
        choices = (
            0,
            size // 2,
            self._random.randint(0, size + 5000),
            self._random.randint(0, 6000),
        )
        return self._random.choice(choices)

    def range_of(self, size: int) -> tuple[int, int]:
        """What to read of a file of `size` bytes: offset and length, perhaps beyond the end."""
        if self._random.random() < 0.4:
            return 0, size + 10
        return self._random.randint(0, size), self._random.randint(1, 100_000)
