"""Goal: the cache is bounded, and gives back what was put. Method: against a plain dict."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dfs.client.block_cache import OVERHEAD_BYTES, BlockCache
from dfs.limits import FRAME_BYTES

BLOCK_ID = b"b" * 32


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 500)), max_size=60))
def test_it_is_bounded_and_never_wrong(puts: list[tuple[int, int]]) -> None:
    cache, truth = BlockCache(2000), dict[int, bytes]()
    for index, length in puts:
        truth[index] = bytes([index]) * length
        cache.put((BLOCK_ID, index), truth[index])
        assert cache.byte_count <= 2000
        assert cache.get((BLOCK_ID, index)) == truth[index]
        for other in range(10):
            assert cache.get((BLOCK_ID, other)) in (None, truth.get(other))


def test_the_least_recently_used_goes_first() -> None:
    cache = BlockCache(2 * (100 + OVERHEAD_BYTES))
    cache.put((BLOCK_ID, 0), bytes(100))
    cache.put((BLOCK_ID, 1), bytes(100))
    cache.get((BLOCK_ID, 0))
    cache.put((BLOCK_ID, 2), bytes(100))
    assert (BLOCK_ID, 0) in cache
    assert (BLOCK_ID, 1) not in cache


def test_a_block_is_kept_by_frames() -> None:
    cache = BlockCache(1 << 20)
    plain = bytes(FRAME_BYTES) + b"tail"
    cache.put_block(BLOCK_ID, 3, plain)
    assert cache.get((BLOCK_ID, 3)) == bytes(FRAME_BYTES)
    assert cache.get((BLOCK_ID, 4)) == b"tail"
