"""The simulated disk: what was synced survives every power cut, and of the rest only a prefix."""

from __future__ import annotations

import pytest

from tests.simulation.disk import Platter, SimDisk
from tests.simulation.trace import Trace

OLD, NEW = b"o" * 1000, b"n" * 1000


def _platter(seed: int, *, capacity_bytes: int = 1 << 30) -> Platter:
    return Platter("host", str(seed), Trace(), capacity_bytes=capacity_bytes)


def _content(platter: Platter, name: str) -> bytes | None:
    disk = SimDisk(platter)
    try:
        return disk.read_at(name, 0, 1 << 20)
    except FileNotFoundError:
        return None


def _after_cut(seed: int, *, is_synced: bool) -> bytes | None:
    platter = _platter(seed)
    disk = SimDisk(platter)
    disk.write_at("file", 0, [OLD])
    disk.sync("file")
    disk.sync_directory()
    disk.write_at("file", 0, [NEW[:400], NEW[400:]])
    disk.write_at("file", 1000, [NEW])
    if is_synced:
        disk.sync("file")
    platter.power_cut()
    return _content(platter, "file")


def test_what_was_synced_survives() -> None:
    assert {_after_cut(seed, is_synced=True) for seed in range(50)} == {NEW + NEW}


def test_what_was_not_synced_survives_as_a_prefix_and_torn() -> None:
    found = [_after_cut(seed, is_synced=False) for seed in range(200)]
    assert OLD in found
    assert NEW in found
    assert NEW + NEW in found
    for content in found:
        assert content is not None
        first, second = content[:1000], content[1000:]
        assert first.rstrip(b"o") == first.rstrip(b"o").replace(b"o", b"n")
        assert not second.strip(b"\0").strip(b"n")
        assert not second or first == NEW
    assert any(0 < content.count(b"n") < 1000 for content in found if content)
    assert any(b"\0" in content for content in found if content)


@pytest.mark.parametrize("is_synced", [True, False])
def test_names_survive_as_of_the_last_directory_sync(is_synced: bool) -> None:
    found = set()
    for seed in range(50):
        platter = _platter(seed)
        disk = SimDisk(platter)
        disk.make_directory("d")
        disk.sync_directory()
        disk.write_at("d/old", 0, [OLD])
        disk.sync("d/old")
        disk.sync_directory("d")
        disk.write_at("d/temporary", 0, [NEW])
        disk.sync("d/temporary")
        disk.rename("d/temporary", "d/old")
        if is_synced:
            disk.sync_directory("d")
        platter.power_cut()
        found.add((_content(platter, "d/old"), _content(platter, "d/temporary")))
    # A rename is there wholly or not at all; a name that was not synced may be gone, bytes and all.
    expected = {(NEW, None)} if is_synced else {(NEW, None), (OLD, NEW), (OLD, None)}
    assert found == expected


def test_truncation_is_forgotten_like_a_write() -> None:
    found = set()
    for seed in range(30):
        platter = _platter(seed)
        disk = SimDisk(platter)
        disk.write_at("file", 0, [OLD])
        disk.sync("file")
        disk.sync_directory()
        disk.truncate("file", 10)
        disk.truncate("file", 20)
        platter.power_cut()
        found.add(_content(platter, "file"))
    assert found == {OLD, OLD[:10], OLD[:10] + bytes(10)}


def test_a_full_disk_writes_what_fits() -> None:
    platter = _platter(1, capacity_bytes=1500)
    disk = SimDisk(platter)
    disk.write_at("file", 0, [OLD])
    with pytest.raises(OSError, match="No space"):
        disk.write_at("file", 1000, [NEW])
    assert disk.read_at("file", 0, 5000) == OLD + NEW[:500]
    assert disk.space().free_bytes == 0


def test_a_lock_ends_with_its_holder() -> None:
    platter = _platter(1)
    is_alive = True
    first = SimDisk(platter, is_alive=lambda: is_alive)
    first.lock("lock")
    second = SimDisk(platter)
    with pytest.raises(BlockingIOError):
        second.lock("lock")
    is_alive = False
    second.lock("lock")
    second.close()
    SimDisk(platter).lock("lock")


def test_a_dead_process_reaches_no_disk() -> None:
    from tests.simulation.network import SimNetwork
    from tests.simulation.process import Killed, Process

    platter = _platter(1)
    trace = Trace()
    process = Process("p", "host", SimNetwork("1", trace), "1", trace)
    disk = SimDisk.of_process(platter, process)
    disk.write_at("file", 0, [OLD])
    process.is_alive = False
    with pytest.raises(Killed):
        disk.write_at("file", 0, [NEW])
    assert _content(platter, "file") == OLD


def _work(disk: SimDisk) -> None:
    for name in ("a", "b", "c"):
        disk.write_at(name, 0, [OLD])
        disk.sync(name)


def test_a_process_dies_in_the_middle_of_its_work() -> None:
    from tests.simulation.network import SimNetwork
    from tests.simulation.process import Killed, Process

    reached = []
    for operations in range(1, 7):
        platter = _platter(1)
        trace = Trace()
        process = Process("p", "host", SimNetwork("1", trace), "1", trace)
        disk = SimDisk.of_process(platter, process)

        def die(process: Process = process) -> None:
            process.is_alive = False

        process.arm("operation", operations, die)
        with pytest.raises(Killed):
            _work(disk)
        reached.append(sorted(platter.root.entries))
    assert reached == [[], ["a"], ["a"], ["a"], ["a"], ["a", "b"]]
