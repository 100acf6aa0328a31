"""I2: bytes handed to an application are the bytes that were written, never others."""

from __future__ import annotations


def check_read(expected: bytes, found: bytes) -> str:
    """Why `found` is a wrong answer to a read of `expected` (I2); empty when it is right."""
    if found == expected:
        return ""
    if len(found) != len(expected):
        return f"{len(found)} bytes, expected {len(expected)}"
    at = next(i for i in range(len(found)) if found[i] != expected[i])
    return f"byte {at}: {found[at : at + 16].hex()}, expected {expected[at : at + 16].hex()}"
