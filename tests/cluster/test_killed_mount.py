"""Goal: of what a killed mount had done without asking, and nobody had synced, only the end is
missing: what is left is what there was after one of its steps (I5), and no step that was synced is
missing (I3). Method: SIGKILL in the middle of many small changes whose order is known."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.conftest import Cluster

pytestmark = pytest.mark.cluster

ROUNDS = 8
STEPS_MAX = 20_000
SYNC_SHARE = 0.02
Tree = dict[str, bytes | None]
"""Name → content, None for a directory."""


class Changer:
    """Changes one directory, step by step, and knows what there was after each."""

    def __init__(self, root: Path, seed: int) -> None:
        self._root = root
        self._random = random.Random(seed)
        self._number = 0
        self.trees: list[Tree] = [{}]
        """After each step, the last one perhaps under way."""
        self.synced_count = 0
        """So many steps were synced."""

    def run(self) -> None:
        """Until the mount is gone."""
        with contextlib.suppress(OSError):
            while len(self.trees) < STEPS_MAX:
                self._step()
                if self._random.random() < SYNC_SHARE:
                    self._sync()

    def _step(self) -> None:
        tree = self.trees[-1]
        files = [name for name, content in tree.items() if content is not None]
        others = [name for name in tree if name not in files]
        kind = self._random.choice(["make", "make", "write", "rename", "unlink", "mkdir", "rmdir"])
        self._number += 1
        fresh = f"n{self._number}"
        if kind == "write" and files:
            self._write(self._random.choice(files))
        elif kind == "rename" and files:
            name = self._random.choice(files)
            self._becomes({**tree, name: None, fresh: tree[name]}, without=name)
            os.rename(self._root / name, self._root / fresh)
        elif kind == "unlink" and len(files) > 5:
            self._becomes(tree, without=files[0])
            os.unlink(self._root / files[0])
        elif kind == "mkdir":
            self._becomes({**tree, fresh: None})
            os.mkdir(self._root / fresh)
        elif kind == "rmdir" and others:
            self._becomes(tree, without=others[0])
            os.rmdir(self._root / others[0])
        else:
            self._becomes({**tree, fresh: b""})
            descriptor = os.open(self._root / fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            os.close(descriptor)

    def _write(self, name: str) -> None:
        """Replace the content as editors do: a new file, and a rename over the old one."""
        data = self._random.randbytes(self._random.choice([1, 100, 4096]))
        new = f"{name}.new"
        self._becomes({**self.trees[-1], new: b""})
        with open(self._root / new, "xb", buffering=0) as file:
            self._becomes({**self.trees[-1], new: data})
            file.write(data)
        self._becomes({**self.trees[-1], name: data}, without=new)
        os.rename(self._root / new, self._root / name)

    def _becomes(self, tree: Tree, *, without: str = "") -> None:
        self.trees.append({name: content for name, content in tree.items() if name != without})

    def _sync(self) -> None:
        count = len(self.trees) - 1
        sync_directory(self._root)
        self.synced_count = count


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_tree(root: Path) -> Tree:
    return {path.name: None if path.is_dir() else path.read_bytes() for path in root.iterdir()}


def test_a_killed_mount_loses_only_the_end(cluster: Cluster) -> None:
    chooser = random.Random(1)
    lost_counts, synced_counts = [], []
    for number in range(ROUNDS):
        root = cluster.mountpoint / f"round-{number}"
        root.mkdir()
        sync_directory(cluster.mountpoint)
        changer = Changer(root, number)
        worker = threading.Thread(target=changer.run)
        worker.start()
        time.sleep(chooser.uniform(0.1, 1.0))
        cluster.kill("mount")
        worker.join(timeout=60)
        assert not worker.is_alive()
        cluster.wait_healthy()
        found = read_tree(root)
        after = [count for count, tree in enumerate(changer.trees) if tree == found]
        assert after, f"round {number}: no step left {sorted(found)}"
        assert after[-1] >= changer.synced_count, f"round {number}: synced steps are gone"
        lost_counts.append(len(changer.trees) - 1 - after[-1])
        synced_counts.append(changer.synced_count)
    assert sum(synced_counts) > ROUNDS, "it did something"
    assert any(lost_counts), "the order of what is owed is looked at only when some of it is lost"
