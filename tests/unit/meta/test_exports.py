from __future__ import annotations

import pytest
import trio

from dfs.core.messages import ExportRecords, RecordsReply
from dfs.engine.memory_engine import MemoryEngine
from dfs.errors import FsError, Overloaded
from dfs.limits import SCAN_BYTES_MAX
from dfs.meta.exports import EXPORTS_MAX, REST_S, Exports
from tests.unit.meta.rig import Mount, Threads, environment_of, rows_of, running


def filled(count: int) -> MemoryEngine:
    engine = MemoryEngine()
    engine.commit({}, {b"\0\0C%06d" % n: b"x" for n in range(count)})
    return engine


def exports_of(engine: MemoryEngine) -> Exports:
    return Exports(engine, environment_of(Threads()))


async def all_of(exports: Exports, export_id: int) -> list[tuple[bytes, bytes]]:
    rows: list[tuple[bytes, bytes]] = []
    while page := await exports.next_page(export_id):
        rows += page
    return rows


async def test_all_records_of_one_moment_page_by_page() -> None:
    engine = filled(2500)
    exports = exports_of(engine)
    before = rows_of(engine)
    export_id = await exports.begin()
    first = await exports.next_page(export_id)
    engine.commit({}, {b"\0\0Cnew": b"y"}, [b"\0\0C002000"])
    assert dict(first + await all_of(exports, export_id)) == before
    with pytest.raises(FsError, match="ESTALE"):
        await exports.next_page(export_id)


async def test_several_at_once_do_not_disturb_each_other() -> None:
    engine = filled(3000)
    exports = exports_of(engine)
    ids = [await exports.begin() for _ in range(3)]
    found: dict[int, dict[bytes, bytes]] = {}

    async def read(export_id: int) -> None:
        found[export_id] = dict(await all_of(exports, export_id))

    async with trio.open_nursery() as nursery:
        for export_id in ids:
            nursery.start_soon(read, export_id)
    assert all(found[export_id] == rows_of(engine) for export_id in ids)


async def test_large_records_come_in_replies_that_a_packet_holds() -> None:
    engine = MemoryEngine()
    engine.commit({}, {b"\0\0C%06d" % n: bytes(65_000) for n in range(200)})
    exports = exports_of(engine)
    export_id, found = await exports.begin(), dict[bytes, bytes]()
    while page := await exports.next_page(export_id):
        assert sum(len(value) for _, value in page) <= SCAN_BYTES_MAX
        found.update(page)
    assert found == rows_of(engine)


async def test_their_number_is_bounded() -> None:
    exports = exports_of(filled(10))
    ids = [await exports.begin() for _ in range(EXPORTS_MAX)]
    with pytest.raises(Overloaded):
        await exports.begin()
    await all_of(exports, ids[0])
    await exports.begin()


async def test_one_that_rests_is_dropped(autojump_clock: object) -> None:
    exports = exports_of(filled(5000))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exports.watch)
        resting, used = await exports.begin(), await exports.begin()
        for _ in range(3):
            await trio.sleep(REST_S / 2)
            assert await exports.next_page(used)
        with pytest.raises(FsError, match="start again"):
            await exports.next_page(resting)
        nursery.cancel_scope.cancel()
    with pytest.raises(FsError):
        await exports.next_page(used)


async def test_the_first_page_says_what_is_held() -> None:
    engine = MemoryEngine()
    async with running(engine) as server:
        mount = await Mount.arrive(server)
        create = mount.create(b"a")
        await mount.do(create, has_hold=True)
        first = await mount.ask(ExportRecords())
        assert isinstance(first, RecordsReply)
        assert first.held == (create.ino,)
        assert dict(first.rows) == rows_of(engine)
        last = await mount.ask(ExportRecords(export_id=first.export_id))
        assert (last.rows, last.held) == ((), ())
