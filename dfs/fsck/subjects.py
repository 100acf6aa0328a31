"""What a finding is about, in words that an operator can look up: paths where names lead there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dfs.core.namespace import keys
from dfs.types import ROOT

if TYPE_CHECKING:
    from dfs.core.namespace.census import Census, Name
    from dfs.types import InodeId

DEPTH_MAX = 4096
"""Ancestors followed before a path is given up: damaged directories may form a ring."""


def path_of(ino: InodeId, census: Census) -> str:
    """The first path that leads to an inode, from the volume's root; `inode N` if none does."""
    names = _first_names(census)
    parts: list[bytes] = []
    current = ino
    while current != ROOT and len(parts) < DEPTH_MAX:
        name = names.get(current)
        if name is None:
            return f"inode {ino}"
        parts.append(name.name)
        current = name.parent
    return os.fsdecode(b"/" + b"/".join(reversed(parts)))


def subject_of(key: bytes, census: Census) -> str:
    """The path, inode, block or setting that a record belongs to."""
    if len(key) < 4 or key[2:3] not in keys.TABLES:
        return f"key {key.hex()}"
    tag = keys.table_of(key)
    if tag in (keys.INODE, keys.DENTRY, keys.XATTR, keys.EXTENT, keys.ORPHAN):
        path = path_of(keys.ino_of(key), census)
        return f"{path}: {os.fsdecode(keys.name_of(key))}" if tag == keys.DENTRY else path
    if tag in (keys.BLOCK, keys.GARBAGE):
        return f"block {keys.block_id_of(key).hex()}"
    return f"{tag.decode()} {key[3:].hex()}"


def _first_names(census: Census) -> dict[InodeId, Name]:
    return {name.ino: name for name in reversed(census.names)}
