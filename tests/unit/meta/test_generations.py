from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dfs.meta.generations import Generations


def filled(cost_max: int, count: int) -> Generations[int]:
    cache: Generations[int] = Generations(cost_max, lambda _: 1)
    for number in range(count):
        cache.put(b"%d" % number, number)
        cache.trim()
    return cache


def test_it_keeps_what_was_used_lately() -> None:
    cache = filled(10, 4)
    for number in range(4, 40):
        cache.put(b"%d" % number, number)
        assert cache.find(b"0") == 0
        cache.trim()
    assert cache.find(b"1") is None
    assert cache.find(b"39") == 39
    assert len(cache) <= 12


def test_large_values_count_more() -> None:
    cache: Generations[int] = Generations(100, lambda value: value)
    cache.put(b"large", 60)
    cache.trim()
    cache.put(b"larger", 70)
    cache.trim()
    assert cache.find(b"large") is None
    assert cache.find(b"larger") == 70


def test_growth_counts() -> None:
    cache = filled(10, 2)
    cache.grow(9)
    cache.trim()
    cache.put(b"a", 1)
    cache.grow(9)
    cache.trim()
    assert cache.find(b"0") is None


def test_whoever_relies_on_it_loses_nothing() -> None:
    """However much others put in the meantime."""
    cache = filled(10, 0)
    mine = cache.enter()
    cache.put(b"mine", -1)
    for number in range(1000):
        other = cache.enter()
        cache.put(b"%d" % number, number)
        cache.leave(other)
        assert cache.find(b"mine") == -1 if number % 100 == 0 else True
    assert cache.find(b"mine") == -1
    cache.leave(mine)
    assert len(cache) > 10
    for number in range(20):
        cache.put(b"%d" % number, number)
        cache.trim()
    assert len(cache) <= 12


@given(
    st.lists(
        st.tuples(st.sampled_from(["put", "find", "enter", "leave"]), st.integers(0, 30)),
        max_size=200,
    )
)
def test_values_are_right_and_relied_ones_stay(script: list[tuple[str, int]]) -> None:
    cache: Generations[int] = Generations(8, lambda _: 1)
    users: list[tuple[int, dict[bytes, int]]] = []
    model: dict[bytes, int] = {}
    for step, (action, number) in enumerate(script):
        key = b"%d" % number
        if action == "put":
            cache.put(key, step)
            model[key] = step
            for _, relied in users:
                relied[key] = step
        elif action == "find":
            found = cache.find(key)
            assert found is None or found == model[key]
        elif action == "enter":
            users.append((cache.enter(), {}))
        elif users:
            rotation, _ = users.pop(number % len(users))
            cache.leave(rotation)
        cache.trim()
        for _, relied in users:
            for relied_key, value in relied.items():
                assert cache.find(relied_key) == value
