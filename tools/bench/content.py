"""Deterministic content: the same seed gives the same bytes on every machine, so it can be
verified."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

_WORDS = (
    b"block segment extent inode server client commit lease frame placement the of and a to in is "
    b"that for it as was with be by on not he his but at are this have from or had an they which"
).split()


def random_bytes(seed: int, length: int) -> bytes:
    """`length` incompressible bytes."""
    return random.Random(seed).randbytes(length)


def text_bytes(seed: int, length: int) -> bytes:
    """`length` bytes that compress like prose: words in a random order, no two blocks alike."""
    chooser = random.Random(seed)
    words: list[bytes] = []
    total = 0
    while total < length:
        word = chooser.choice(_WORDS)
        words.append(word)
        total += len(word) + 1
    return b" ".join(words)[:length].ljust(length)


@dataclass(frozen=True)
class TreeFile:
    """One file of a small-file tree, relative path and content."""

    path: str
    content: bytes


def small_tree(file_count: int, seed: int = 1) -> list[TreeFile]:
    """A source-like tree: ~20 files a directory, sizes log-normal around 3 KiB, a few of 100
    KiB."""
    assert file_count > 0
    chooser = random.Random(seed)
    files: list[TreeFile] = []
    for index in range(file_count):
        directory = f"package{index // 400:02}/module{index // 20 % 20:02}"
        size = min(int(chooser.lognormvariate(8, 1.2)), 100_000)
        path = f"{directory}/file{index:05}.txt"
        files.append(TreeFile(path, text_bytes(seed * 1_000_003 + index, size)))
    return files


def digest(data: bytes) -> bytes:
    """What two equal contents share."""
    return hashlib.blake2b(data, digest_size=16).digest()
