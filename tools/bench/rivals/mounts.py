"""Mounts that the benchmark made: are they there, and how they are taken off."""

from __future__ import annotations

import os
import subprocess
import time
from typing import TYPE_CHECKING

from dfs.mountpoint import find_mount, mount_table

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE_S = 20.0
POLL_S = 0.1


def is_mounted(place: Path) -> bool:
    """Whether something is mounted exactly there. Does not touch it: it may hang."""
    return find_mount(os.path.realpath(place)) is not None


def unmount(place: Path) -> None:
    """Nothing is mounted there any more. A busy mount is waited for, then detached."""
    deadline_s = time.monotonic() + PATIENCE_S
    while is_mounted(place):
        is_late = time.monotonic() > deadline_s
        command = ["umount", *(["--lazy"] if is_late else []), str(place)]
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode != 0:
            time.sleep(POLL_S)
            if is_late:
                return


def abort(place: Path) -> None:
    """Whoever waits for this FUSE mount gets an error (umount2(2), MNT_FORCE)."""
    subprocess.run(["umount", "--force", str(place)], capture_output=True, check=False)


def mounts_below(directory: Path) -> list[str]:
    """What is still mounted in the directory, innermost first."""
    top = os.path.realpath(directory)
    inside = [entry.path for entry in mount_table() if entry.path.startswith(f"{top}/")]
    return inside[::-1]
