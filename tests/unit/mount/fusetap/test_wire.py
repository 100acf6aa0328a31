"""Goal: a handle's number carries flags to the tap and is the same number for the kernel."""

from __future__ import annotations

import pytest

from dfs.mount.fusetap.wire import HANDLE_NUMBER_MAX, IN_HEADER, OpenFlag, handle_with_flags


@pytest.mark.parametrize("number", [0, 1, HANDLE_NUMBER_MAX])
def test_flags_are_in_the_top_byte(number: int) -> None:
    assert handle_with_flags(number, OpenFlag(0)) == number
    handle = handle_with_flags(number, OpenFlag.NOFLUSH | OpenFlag.CACHE_DIR)
    assert handle >> 56 == 0x28
    assert handle & HANDLE_NUMBER_MAX == number
    assert handle < 1 << 64


def test_numbers_of_different_flags_never_meet() -> None:
    with pytest.raises(AssertionError):
        handle_with_flags(HANDLE_NUMBER_MAX + 1, OpenFlag(0))


def test_the_header_is_the_kernels() -> None:
    assert IN_HEADER.size == 40
