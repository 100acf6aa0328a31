"""The rules that every committed set of records keeps, one `check_…` each.

Used by fsck, by the property tests after every sequence, and by the simulation after every run. A
check reads a `Census` and yields a `Finding` for each record that breaks its rule; it never raises.
"""

from __future__ import annotations

import stat
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from msgspec.structs import replace

from dfs.core.namespace import keys
from dfs.core.namespace.census import Census, Finding, Name, of_inode
from dfs.core.namespace.content_invariants import CONTENT_CHECKS, check_orphans_held
from dfs.core.namespace.records import Dentry, Inode, Record
from dfs.types import ROOT, InodeId

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["CHECKS", "Finding", "RecordChecker"]


class RecordChecker:
    """Findings over a full set of records: `add` every row in key order, then `finish`. Checks I6
    and the rules of the namespace."""

    def __init__(self) -> None:
        self.census = Census()

    def add(self, key: bytes, value: bytes) -> None:
        """Takes in one row of the engine: key and encoded record."""
        self.census.add(key, value)

    def finish(self, held: set[InodeId]) -> list[Finding]:
        """What is wrong, by check; empty for a sound volume. `held`: inodes that sessions hold.

        With an unreadable record among them nothing offers a repair: what that record says is not
        known, and counting without it would throw away what it leads to.
        """
        findings = [finding for check in CHECKS for finding in check(self.census)]
        findings.extend(check_orphans_held(self.census, held))
        if self.census.unreadable:
            return [replace(finding, repair={}) for finding in findings]
        return findings


# ---------------------------------------------------------------- single records


def check_readable(census: Census) -> Iterator[Finding]:
    """Every row has a key and a record that this dfs can read."""
    yield from census.unreadable


def check_symlinks(census: Census) -> Iterator[Finding]:
    """A symlink's size is the length of its target."""
    for inode in census.inodes.values():
        if inode.is_symlink and inode.size != len(inode.target):
            fixed = replace(inode, size=len(inode.target))
            yield of_inode("symlinks", inode, f"size {inode.size}, target {fixed.size}", fixed)


# ---------------------------------------------------------------- names


def check_entries_lead_to_inodes(census: Census) -> Iterator[Finding]:
    """Every entry leads to an inode, of the type that the entry says."""
    unreadable = {finding.key for finding in census.unreadable}
    for name in census.names:
        inode = census.inodes.get(name.ino)
        if inode is None:
            if keys.inode_key(name.ino) in unreadable:
                continue
            message = f"{_text(name)} leads to inode {name.ino}, which does not exist"
            yield Finding("entries_lead_to_inodes", name.key, message, repair={name.key: None})
        elif stat.S_IFMT(inode.mode) != name.file_type:
            message = f"{_text(name)} has another type than inode {name.ino}"
            fixed = Dentry(ino=name.ino, file_type=stat.S_IFMT(inode.mode))
            yield Finding("entries_lead_to_inodes", name.key, message, repair={name.key: fixed})


def check_entries_in_directories(census: Census) -> Iterator[Finding]:
    """Every entry is in a directory, and one that still has its own name."""
    for name in census.names:
        directory = census.inodes.get(name.parent)
        if directory is not None and directory.is_directory and directory.nlink:
            continue
        message = f"{_text(name)} is in what is no directory, or was removed"
        yield Finding("entries_in_directories", name.key, message, repair={name.key: None})


def check_link_counts(census: Census) -> Iterator[Finding]:
    """nlink is the number of names; a directory's is 2 + its subdirectories."""
    name_counts = Counter(name.ino for name in census.names)
    subdirectories = Counter(n.parent for n in census.names if n.file_type == stat.S_IFDIR)
    taken = {name.name for name in census.names if name.parent == ROOT}
    for inode in census.inodes.values():
        names = 1 if inode.ino == ROOT else name_counts[inode.ino]
        expected = names
        if inode.is_directory:
            expected = 2 + subdirectories[inode.ino] if names else 0
        if inode.nlink == expected:
            continue
        if not names:
            yield _lost(inode, taken)
            continue
        fixed = replace(inode, nlink=expected)
        yield of_inode("link_counts", inode, f"nlink {inode.nlink}, counted {expected}", fixed)


def check_directories_have_one_name(census: Census) -> Iterator[Finding]:
    """A directory has one name, and knows which directory that is in. The root has none."""
    names: defaultdict[InodeId, list[Name]] = defaultdict(list)
    for name in census.names:
        inode = census.inodes.get(name.ino)
        if inode is not None and inode.is_directory:
            names[name.ino].append(name)
    for ino, found in names.items():
        inode = census.inodes[ino]
        first = next((name for name in found if name.parent == inode.parent), found[0])
        for name in found:
            if name is not first or ino == ROOT:
                message = f"{_text(name)} is a second name of directory {ino}"
                fix: dict[bytes, Record | None] = {name.key: None}
                yield Finding("directories_have_one_name", name.key, message, repair=fix)
        if first.parent != inode.parent and ino != ROOT:
            fixed = replace(inode, parent=first.parent)
            message = f"parent {inode.parent}, but it is in {first.parent}"
            yield of_inode("directories_have_one_name", inode, message, fixed)


def check_directory_sizes(census: Census) -> Iterator[Finding]:
    """A directory's size is its number of entries."""
    counts = Counter(name.parent for name in census.names)
    for inode in census.inodes.values():
        if inode.is_directory and inode.size != counts[inode.ino]:
            fixed = replace(inode, size=counts[inode.ino])
            message = f"size {inode.size}, but {fixed.size} entries"
            yield of_inode("directory_sizes", inode, message, fixed)


def check_reachable(census: Census) -> Iterator[Finding]:
    """There is a root, and no directory is its own ancestor (names without a place are
    check_link_counts')."""
    root = census.inodes.get(ROOT)
    if root is None or not root.is_directory or root.parent != ROOT:
        yield Finding("reachable", keys.inode_key(ROOT), "the root directory is missing or damaged")
    parents = {n.ino: n for n in census.names if n.file_type == stat.S_IFDIR and n.ino != ROOT}
    settled: set[InodeId] = set()
    for start in parents:
        path: dict[InodeId, None] = {}
        ino = start
        while ino in parents and ino not in settled and ino not in path:
            path[ino] = None
            ino = parents[ino].parent
        if ino in path:
            # Cut at one name: what hangs there is then found as a lost directory, and named again.
            loop = list(path)[list(path).index(ino) :]
            name = parents[min(loop)]
            message = f"directory {name.ino} is its own ancestor"
            yield Finding("reachable", name.key, message, repair={name.key: None})
        settled.update(path)


# ---------------------------------------------------------------- shared


def _text(name: Name) -> str:
    return f"entry {name.name!r} of directory {name.parent}"


def _lost(inode: Inode, taken: set[bytes]) -> Finding:
    """An inode that claims names but has none gets one in the root, so that nobody's data is
    deleted. `taken`: the names that the root has."""
    name = Name(ROOT, b"lost-inode-%d" % inode.ino, inode.ino, stat.S_IFMT(inode.mode))
    while name.name in taken:
        name = replace(name, name=name.name + b"-")
    key = keys.inode_key(inode.ino)
    nlink = inode.nlink if inode.is_directory else 1
    parent = ROOT if inode.is_directory else inode.parent
    repair: dict[bytes, Record | None] = {
        name.key: Dentry(ino=inode.ino, file_type=name.file_type),
        key: replace(inode, nlink=nlink, parent=parent),
    }
    message = f"inode {inode.ino}: nlink {inode.nlink}, but no name leads to it"
    return Finding("link_counts", key, message, repair=repair)


CHECKS: tuple[Callable[[Census], Iterator[Finding]], ...] = (
    check_readable,
    check_entries_lead_to_inodes,
    check_entries_in_directories,
    check_link_counts,
    check_directories_have_one_name,
    check_directory_sizes,
    check_reachable,
    check_symlinks,
    *CONTENT_CHECKS,
)
