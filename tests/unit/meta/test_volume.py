from __future__ import annotations

import pytest

from dfs.core.namespace import keys
from dfs.core.namespace.records import FORMAT_VERSION, Config, encode_record
from dfs.engine.api import EngineDamaged, Retry, Unknown
from dfs.engine.memory_engine import MemoryEngine
from dfs.errors import FormatTooNew, NoSpace
from dfs.meta.volume import load_volume, make_volume
from dfs.types import ClusterId
from tests.unit.meta.rig import (
    Mount,
    Threads,
    assert_sound,
    config_of,
    environment_of,
    rows_of,
    running,
)


async def made(engine: MemoryEngine, seed: int = 1, **changes: object) -> None:
    await make_volume(config_of(**changes), environment_of(Threads(), seed=seed), engine)


async def loaded(engine: MemoryEngine) -> Config:
    return (await load_volume(environment_of(Threads()), engine)).config


async def test_the_first_server_makes_the_volume_in_one_commit() -> None:
    engine, threads = MemoryEngine(), Threads()
    await make_volume(config_of(copies=3), environment_of(threads), engine)
    assert threads.commit_count == 1
    config = await loaded(engine)
    assert len(config.cluster_id) == 32
    assert (config.copies, config.min_copies) == (3, 2)
    assert_sound(engine)


@pytest.mark.parametrize(("copies", "expected"), [(1, 1), (2, 1), (3, 2)])
async def test_one_copy_may_be_late_by_default(copies: int, expected: int) -> None:
    engine = MemoryEngine()
    await made(engine, copies=copies)
    assert (await loaded(engine)).min_copies == expected


async def test_an_existing_volume_keeps_its_settings() -> None:
    engine = MemoryEngine()
    await made(engine, copies=3, min_copies=3, block_bytes=1 << 18)
    before = rows_of(engine)
    await made(engine, seed=2, copies=1, block_bytes=1 << 20)
    assert rows_of(engine) == before
    async with running(engine, copies=1) as server:
        mount = await Mount.arrive(server)
        reply = await mount.come_back(server, 2)
        assert reply.settings.block_bytes == 1 << 18
        assert (reply.cluster_map.copies, reply.cluster_map.min_copies) == (3, 3)


async def test_clusters_have_different_names() -> None:
    ids = []
    for seed in (1, 2):
        engine = MemoryEngine()
        await made(engine, seed=seed)
        ids.append((await loaded(engine)).cluster_id)
    assert ids[0] != ids[1]


@pytest.mark.parametrize("is_written", [False, True])
@pytest.mark.parametrize("error", [Unknown("lost"), Retry("busy")])
async def test_a_commit_of_unknown_outcome_makes_one_volume(
    error: Exception, is_written: bool, autojump_clock: object
) -> None:
    engine, threads = MemoryEngine(), Threads()
    (threads.late_errors if is_written else threads.commit_errors).append(error)
    await make_volume(config_of(), environment_of(threads), engine)
    assert_sound(engine)


async def test_a_full_disk_is_told() -> None:
    threads = Threads()
    threads.commit_errors.append(NoSpace("full"))
    with pytest.raises(NoSpace):
        await make_volume(config_of(), environment_of(threads), MemoryEngine())


async def test_a_newer_format_is_one_clear_line_and_stays_untouched() -> None:
    engine = MemoryEngine()
    await made(engine)
    [value] = engine.get([keys.VOLUME_KEY])
    assert value is not None
    engine.commit({}, {keys.VOLUME_KEY: bytes((FORMAT_VERSION + 1,)) + value[1:]})
    before = rows_of(engine)
    with pytest.raises(FormatTooNew, match="written by a newer dfs"):
        async with running(engine):
            pass
    assert rows_of(engine) == before


@pytest.mark.parametrize("key", [keys.VOLUME_KEY, keys.MAP_KEY])
async def test_missing_and_damaged_records_are_told(key: bytes) -> None:
    engine = MemoryEngine()
    await made(engine)
    engine.commit({}, {key: b"\x01\xc1"})
    with pytest.raises(EngineDamaged, match="is damaged"):
        await load_volume(environment_of(Threads()), engine)
    engine.commit({}, {}, [key])
    with pytest.raises(EngineDamaged, match="is missing"):
        await load_volume(environment_of(Threads()), engine)


async def test_another_server_may_be_faster() -> None:
    engine, other = MemoryEngine(), Config(ClusterId("ab" * 16), 65536, 2, 1)
    original = engine.get

    def get(wanted: object) -> object:
        engine.get = original  # type: ignore[method-assign]
        found = original(wanted)  # type: ignore[arg-type]
        engine.commit({}, {keys.VOLUME_KEY: encode_record(other)})
        return found

    engine.get = get  # type: ignore[assignment,method-assign]
    await made(engine)
    assert list(rows_of(engine)) == [keys.VOLUME_KEY]
