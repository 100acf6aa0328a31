"""The steps of a namespace workload, as plain values: what one writer asks for, by path."""

from __future__ import annotations

from dataclasses import dataclass

Path = tuple[bytes, ...]
"""Names below the writer's directory."""


@dataclass(frozen=True)
class Step:
    """One thing to do."""

    path: Path

    def __str__(self) -> str:
        shown = [f"{name}={_shown(value)}" for name, value in vars(self).items() if name != "path"]
        return f"{type(self).__name__} {' '.join([_shown(self.path), *shown])}"


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return "/".join(name.decode() for name in value) or "."
    if isinstance(value, bytes):
        return repr(value)[1:] if len(value) <= 24 else f"{len(value)}B"
    return str(value)


@dataclass(frozen=True)
class Mkdir(Step):
    mode: int


@dataclass(frozen=True)
class Create(Step):
    """open(O_CREAT | O_EXCL); the file stays open."""

    mode: int


@dataclass(frozen=True)
class Symlink(Step):
    target: bytes


@dataclass(frozen=True)
class Link(Step):
    source: Path


@dataclass(frozen=True)
class Unlink(Step):
    pass


@dataclass(frozen=True)
class Rmdir(Step):
    pass


@dataclass(frozen=True)
class Rename(Step):
    new_path: Path
    flags: int


@dataclass(frozen=True)
class Chmod(Step):
    mode: int


@dataclass(frozen=True)
class Truncate(Step):
    size: int


@dataclass(frozen=True)
class SetXattr(Step):
    name: bytes
    value: bytes


@dataclass(frozen=True)
class RemoveXattr(Step):
    name: bytes
