"""What one writer's subtree must look like: a small model of a filesystem, by itself.

It shares no code with the product. `Tree.apply` says for a step which errno is right, and changes
the model when it is 0. Everything is a plain value, so a tree can be copied: the state before a
step and the state after it are both kept while nobody knows whether it happened.

A file's `versions` are what may be found after a crash: the bytes that were synced, then the bytes
after each later write. After a sync one version is left. Between them each byte may be of any of
them, since a crash may come between two blocks of one flush.
"""

from __future__ import annotations

import copy
import errno
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.simulation.workloads.steps import (
    Chmod,
    Create,
    Link,
    Mkdir,
    RemoveXattr,
    Rename,
    Rmdir,
    SetXattr,
    Step,
    Symlink,
    Truncate,
    Unlink,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.simulation.workloads.steps import Path

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2


@dataclass(eq=False)
class Node:
    """One inode of the model."""

    mode: int
    """Type and permissions."""
    ino: int = 0
    """0 until the product said it."""
    children: dict[bytes, Node] = field(default_factory=dict)
    target: bytes = b""
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    name_count: int = 1
    versions: list[bytes] = field(default_factory=lambda: [b""])
    is_told: bool = True
    """Others must find the last version: the file was closed or synced since it was written."""

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def nlink(self) -> int:
        if self.is_directory:
            return 2 + sum(child.is_directory for child in self.children.values())
        return self.name_count

    @property
    def content(self) -> bytes:
        """What the writer itself sees."""
        return self.versions[-1]

    def write(self, offset: int, data: bytes) -> None:
        """One more version; nobody has promised it yet."""
        old = self.content.ljust(offset, b"\0")
        self.versions.append(old[:offset] + data + old[offset + len(data) :])
        self.is_told = False

    def write_all(self, writes: Sequence[tuple[int, bytes]]) -> None:
        """Several writes as one version: after a crash each byte is an old or a new one."""
        content = bytearray(self.content)
        for offset, data in writes:
            content.extend(bytes(max(0, offset - len(content))))
            content[offset : offset + len(data)] = data
        self.versions.append(bytes(content))
        self.is_told = False

    def unwrite(self) -> None:
        """The last write was refused."""
        self.versions.pop()

    def resize(self, size: int) -> None:
        """Truncation is durable when it returns, whatever became of the writes before it."""
        self.versions = [version[:size].ljust(size, b"\0") for version in self.versions]

    def sync(self) -> None:
        """What is there now must be there after any crash."""
        del self.versions[:-1]
        self.is_told = True


class Tree:
    """A directory and everything below it. Paths are tuples of names, () is the directory."""

    def __init__(self, ino: int) -> None:
        self.root = Node(stat.S_IFDIR | 0o755, ino)

    def copy(self) -> Tree:
        return copy.deepcopy(self)

    def find(self, path: Path) -> Node | None:
        node: Node | None = self.root
        for name in path:
            node = None if node is None else node.children.get(name)
        return node

    def walk(self) -> Iterator[tuple[Path, Node]]:
        """Every path with its node, directories before what is in them, names sorted."""
        pending: list[tuple[Path, Node]] = [((), self.root)]
        while pending:
            path, node = pending.pop()
            yield path, node
            below = sorted(node.children.items(), reverse=True)
            pending += [((*path, name), child) for name, child in below]

    def apply(self, step: Step) -> int:
        """The errno that the step must get; for 0 the tree is what it must be afterwards."""
        return _RULES[type(step)](self, step)

    def place(self, path: Path) -> tuple[Node, bytes, Node | None]:
        """The directory, the name in it, and what has the name."""
        parent = self.find(path[:-1])
        assert parent is not None
        assert parent.is_directory
        return parent, path[-1], parent.children.get(path[-1])


def _mkdir(tree: Tree, step: Mkdir) -> int:
    return _add(tree, step.path, Node(stat.S_IFDIR | step.mode))


def _create(tree: Tree, step: Create) -> int:
    return _add(tree, step.path, Node(stat.S_IFREG | step.mode))


def _symlink(tree: Tree, step: Symlink) -> int:
    return _add(tree, step.path, Node(stat.S_IFLNK | 0o777, target=step.target))


def _add(tree: Tree, path: Path, node: Node) -> int:
    parent, name, found = tree.place(path)
    if found is not None:
        return errno.EEXIST
    parent.children[name] = node
    return 0


def _link(tree: Tree, step: Link) -> int:
    source = tree.find(step.source)
    parent, name, found = tree.place(step.path)
    assert source is not None
    if found is not None:
        return errno.EEXIST
    if source.is_directory:
        return errno.EPERM
    parent.children[name] = source
    source.name_count += 1
    source.sync()
    return 0


def _unlink(tree: Tree, step: Unlink) -> int:
    parent, name, found = tree.place(step.path)
    if found is None:
        return errno.ENOENT
    if found.is_directory:
        return errno.EISDIR
    del parent.children[name]
    found.name_count -= 1
    return 0


def _rmdir(tree: Tree, step: Rmdir) -> int:
    parent, name, found = tree.place(step.path)
    if found is None:
        return errno.ENOENT
    if not found.is_directory:
        return errno.ENOTDIR
    if found.children:
        return errno.ENOTEMPTY
    del parent.children[name]
    return 0


def _rename(tree: Tree, step: Rename) -> int:
    parent, name, source = tree.place(step.path)
    new_parent, new_name, target = tree.place(step.new_path)
    problem = _rename_problem(step, source, target)
    if problem or source is target:
        return problem
    assert source is not None
    if step.flags & RENAME_EXCHANGE:
        assert target is not None
        parent.children[name] = target
        target.sync()
    else:
        del parent.children[name]
        if target is not None:
            target.name_count -= 1
    new_parent.children[new_name] = source
    source.sync()
    return 0


def _rename_problem(step: Rename, source: Node | None, target: Node | None) -> int:
    """In the order in which Linux looks (rename(2), fs/namei.c)."""
    if source is None:
        return errno.ENOENT
    if step.flags & RENAME_NOREPLACE and target is not None:
        return errno.EEXIST
    if step.flags & RENAME_EXCHANGE and target is None:
        return errno.ENOENT
    if len(step.new_path) > len(step.path) and step.new_path[: len(step.path)] == step.path:
        return errno.EINVAL
    if len(step.path) > len(step.new_path) and step.path[: len(step.new_path)] == step.new_path:
        return errno.EINVAL if step.flags & RENAME_EXCHANGE else errno.ENOTEMPTY
    if source is target or target is None or step.flags & RENAME_EXCHANGE:
        return 0
    if source.is_directory and not target.is_directory:
        return errno.ENOTDIR
    if target.is_directory and not source.is_directory:
        return errno.EISDIR
    return errno.ENOTEMPTY if target.children else 0


def _chmod(tree: Tree, step: Chmod) -> int:
    node = tree.find(step.path)
    assert node is not None
    node.mode = stat.S_IFMT(node.mode) | step.mode
    return 0


def _truncate(tree: Tree, step: Truncate) -> int:
    node = tree.find(step.path)
    assert node is not None
    assert node.is_file
    node.resize(step.size)
    return 0


def _set_xattr(tree: Tree, step: SetXattr) -> int:
    node = tree.find(step.path)
    assert node is not None
    node.xattrs[step.name] = step.value
    return 0


def _remove_xattr(tree: Tree, step: RemoveXattr) -> int:
    node = tree.find(step.path)
    assert node is not None
    return 0 if node.xattrs.pop(step.name, None) is not None else errno.ENODATA


_RULES: dict[type[Step], Callable[[Tree, Any], int]] = {
    Mkdir: _mkdir,
    Create: _create,
    Symlink: _symlink,
    Link: _link,
    Unlink: _unlink,
    Rmdir: _rmdir,
    Rename: _rename,
    Chmod: _chmod,
    Truncate: _truncate,
    SetXattr: _set_xattr,
    RemoveXattr: _remove_xattr,
}
