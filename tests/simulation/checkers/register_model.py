"""What it means to write a small file as a whole, and to read it: the file is a register.

A write is open, one pwrite of always the same length, fsync or close; a read is open and one pread.
A write's bytes reach others at one moment, the commit, which is before fsync or close returns
(close-to-open, I4). The client that writes sees its own bytes sooner: it must not be asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Access(NamedTuple):
    """ "write" of a value that nobody else writes, or "read"."""

    kind: str
    register: int
    value: int = 0


class RegisterModel:
    """Accesses to one register, and the values that reads found; see linearizability.Model."""

    first = 0
    """Nobody has written yet."""

    def __init__(self, accesses: Mapping[int, Access], found: Mapping[int, int]) -> None:
        self._accesses = accesses
        self._found = found

    def is_change(self, number: int) -> bool:
        return self._accesses[number].kind == "write"

    def touches(self, number: int) -> frozenset[int]:
        return frozenset((self._accesses[number].register,))

    def settled(self, state: int, number: int) -> Iterable[int]:
        return ()

    def after(self, state: int, number: int) -> int | None:
        access = self._accesses[number]
        if access.kind == "write":
            return access.value
        return state if self._found.get(number, state) == state else None
