"""I3: when fsync, or anything else that promises durability, returned, no crash loses a byte of it.

The model of a file keeps the synced bytes and every later write in order (`Node.versions`). What a
crash may leave is any mixture of them byte by byte, of a size between the smallest and the largest,
with zeros where a write behind the synced end did not make it. Anything else broke a promise, or is
a byte that nobody wrote.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

STRETCH_BYTES = 1024
"""Compared at once: mostly one version explains all of a stretch."""


def check_synced_bytes(versions: Sequence[bytes], found: bytes) -> str:
    """Why `found` cannot be what is left of a file (I3); empty when it can."""
    assert versions
    if found == versions[-1] or found == versions[0]:
        return ""
    sizes = [len(version) for version in versions]
    if not min(sizes) <= len(found) <= max(sizes):
        return f"size {len(found)}, expected {_range_text(min(sizes), max(sizes))}"
    for start in range(0, len(found), STRETCH_BYTES):
        stretch = found[start : start + STRETCH_BYTES]
        if not any(version[start : start + len(stretch)] == stretch for version in versions):
            at = _first_wrong(versions, found, range(start, start + len(stretch)))
            if at is not None:
                return _difference(versions, found, at)
    return ""


def _first_wrong(versions: Sequence[bytes], found: bytes, stretch: range) -> int | None:
    """The first place in the stretch whose byte is of no version."""
    for at in stretch:
        if not any(_byte(version, at) == found[at] for version in versions):
            return at
    return None


def _byte(version: bytes, at: int) -> int:
    """Behind a version's end there is nothing; if the file grew by a later write, zeros."""
    return version[at] if at < len(version) else 0


def _range_text(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} … {high}"


def _difference(versions: Sequence[bytes], found: bytes, at: int) -> str:
    expected = " or ".join(dict.fromkeys(version[at : at + 16].hex() for version in versions))
    return f"byte {at} of {len(found)}: {found[at : at + 16].hex()}, expected {expected}"
