"""What the benchmark asks of a filesystem that it starts itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class RivalError(Exception):
    """It cannot be had, started or stopped: one line for the user, that begins with its name."""


class Rival(Protocol):
    """A filesystem with servers of its own on this machine, made for one run and removed after it.

    Order: `install`, `start` once, `stop` once. All of it in the directory given, which is the
    rival's alone and is removed by the caller. Every method raises RivalError.
    """

    name: ClassVar[str]
    copies_max: ClassVar[int]
    """More than that it cannot keep on servers of its own here."""

    def install(self, directory: Path, say: Callable[[str], None]) -> None:
        """Brings what is missing from public packages; tells with `say` what and how."""

    def start(self, directory: Path, copies: int) -> tuple[Path, Path]:
        """Two mount points of one empty filesystem that keeps `copies` of everything."""

    def stop(self) -> None:
        """Nothing is mounted and nothing runs any more, however far `start` had come."""
