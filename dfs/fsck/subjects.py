"""What a finding is about, in words that an operator can look up: paths where names lead there."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from dfs.core.namespace import keys
from dfs.types import ROOT

if TYPE_CHECKING:
    from dfs.core.namespace.census import Census, Name
    from dfs.types import BlockId, InodeId

DEPTH_MAX = 4096
"""Ancestors followed before a path is given up: damaged directories may form a ring."""
_OF_INODES = (keys.INODE, keys.DENTRY, keys.XATTR, keys.EXTENT, keys.ORPHAN)


class Subjects:
    """Names what records, inodes and blocks of one census belong to. Paths begin at the volume's
    root."""

    def __init__(self, census: Census) -> None:
        self._census = census

    @cached_property
    def _names(self) -> dict[InodeId, Name]:
        """The first name of every inode."""
        return {name.ino: name for name in reversed(self._census.names)}

    def of_inode(self, ino: InodeId) -> str:
        """The first path that leads to an inode; `inode N` if none does."""
        parts: list[bytes] = []
        current = ino
        while current != ROOT:
            name = self._names.get(current)
            if name is None or len(parts) == DEPTH_MAX:
                return f"inode {ino}"
            parts.append(name.name)
            current = name.parent
        return text_of(b"/" + b"/".join(reversed(parts)))

    def of_block(self, block_id: BlockId) -> str:
        """A file that the block belongs to, and how many extents beside that one name it."""
        use = self._census.block_uses.get(block_id)
        if use is None:
            return f"block {block_id.hex()}"
        path = self.of_inode(keys.ino_of(use.key))
        return path if use.count == 1 else f"{path} (and {use.count - 1} more extents)"

    def of_key(self, key: bytes) -> str:
        """The path, inode, block or setting that a record belongs to."""
        if len(key) <= 3 or key[2:3] not in keys.TABLES:
            return f"key {key.hex()}"
        tag = keys.table_of(key)
        if tag == keys.DENTRY:
            directory = self.of_inode(keys.ino_of(key)).removesuffix("/")
            return f"{directory}/{text_of(keys.name_of(key))}"
        if tag in _OF_INODES:
            return self.of_inode(keys.ino_of(key))
        if tag in (keys.BLOCK, keys.GARBAGE):
            return self.of_block(keys.block_id_of(key))
        if tag == keys.SESSION:
            return f"session {int.from_bytes(key[3:], 'big')}"
        return f"volume {text_of(key[3:])}"


def text_of(name: bytes) -> str:
    """A name for people and for JSON: one line, whatever bytes it has."""
    text = name.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
