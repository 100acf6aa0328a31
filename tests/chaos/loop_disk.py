"""A small disk of its own for one chunk server: a file behind a loop device, with ext4 on it.

The device frees itself when it is unmounted, also by the end of the run's mount namespace. Where
there are no loop devices, `problem` says so, and the server's directory is an ordinary one.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from dfs.limits import GIB, KIB

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chaos.spawner import Spawner

DISK_BYTES = 2 * GIB
"""Sparse. Large enough for all that a long run leaves on it between two compactions."""
LEFT_BYTES_MAX = 64 * KIB


class LoopDisk:
    """Mounted on `directory` from the start."""

    def __init__(self, spawner: Spawner, image: Path, directory: Path) -> None:
        directory.mkdir()
        self._spawner = spawner
        self.problem = ""
        self._directory = directory
        self._filler = directory / "filler"
        with image.open("wb") as file:
            file.truncate(DISK_BYTES)
        for command in (
            ["mkfs.ext4", "-q", "-F", "-m", "0", str(image)],
            ["mount", "-o", "loop", str(image), str(directory)],
        ):
            done = spawner.run(command)
            if done.returncode != 0 and not self.problem:
                self.problem = f"no loop device here: {done.stderr.strip()}"

    def fill(self) -> None:
        """Somebody else takes all the space that is left."""
        with self._filler.open("wb") as file:
            size = DISK_BYTES
            while size >= LEFT_BYTES_MAX:
                try:
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, size)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    size //= 2

    def make_room(self) -> None:
        self._filler.unlink()

    def detach(self) -> None:
        if not self.problem:
            self._spawner.run(["umount", "--lazy", str(self._directory)])
