"""I6: condemned, deleted, counted, forgotten, in this order; a block in use is never deleted."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import pytest
import trio

from dfs.core.messages import ChunkReply, ChunkRequest, DeleteBlocks, Done, ReportServer
from dfs.core.namespace.keys import block_key, garbage_key
from dfs.core.namespace.records import BlockRef, decode_record, encode_record
from dfs.engine.memory_engine import MemoryEngine
from dfs.errors import Fenced
from dfs.limits import GIB
from dfs.rpc.server import serve
from dfs.types import ClusterId, ServerId, SpaceUsage
from tests.unit.meta.rig import (
    Link,
    Mount,
    Threads,
    assert_sound,
    block_id,
    environment_of,
    running,
    unlink,
    write_block,
)
from tests.unit.rpc.memory_network import MemoryNetwork

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dfs.meta.server import MetaServer

GRACE_S = 10.0


class Chunk:
    """A chunk server that only deletes, and what the records said at that moment."""

    def __init__(self, number: int, engine: MemoryEngine) -> None:
        self.address = f"chunk:{number}"
        self.server_id = ServerId(f"{number:016x}")
        self.engine = engine
        self.deleted: list[bytes] = []
        self.orders: list[int] = []
        self.before_delete: Callable[[], Awaitable[None]] | None = None
        self.is_reporting = True

    async def handle(self, request: ChunkRequest, payload: object, link: object) -> ChunkReply:
        assert isinstance(request, DeleteBlocks)
        if self.before_delete is not None:
            await self.before_delete()
        for one in request.block_ids:
            ref = ref_of(self.engine, one)
            assert ref is not None
            assert ref.is_condemned, "condemned first, durably"
            self.deleted.append(one)
        self.orders.append(request.order)
        return Done()

    async def run(self, network: MemoryNetwork, server: MetaServer) -> None:
        environment = environment_of(Threads(), network)
        listener = await network.listen(self.address)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, environment, listener, ChunkRequest, self.handle)
            while True:
                if self.is_reporting:
                    await server.handle(self.report(), b"", Link(100))
                await trio.sleep(1)

    def report(self) -> ReportServer:
        return ReportServer(
            server_id=self.server_id,
            cluster_id=ClusterId(""),
            address=self.address,
            zone=self.address,
            space=SpaceUsage(GIB, 0, GIB),
            block_count=0,
        )


def ref_of(engine: MemoryEngine, one: bytes) -> BlockRef | None:
    [value] = engine.get([block_key(one)])  # type: ignore[arg-type]
    return decode_record(BlockRef, value) if value is not None else None


class Scene:
    """A server with chunk servers, and a file whose block can be dropped."""

    def __init__(self, engine: MemoryEngine, server: MetaServer, mount: Mount) -> None:
        self.engine = engine
        self.server = server
        self.mount = mount
        self.network = MemoryNetwork()
        self.chunks = [Chunk(number, engine) for number in (1, 2)]

    async def make_garbage(self, *numbers: int) -> None:
        for number in numbers:
            file = self.mount.create(b"f%d" % number)
            await self.mount.do(file)
            assert (await self.mount.do(write_block(file.ino, number))).errno == 0
            assert (await self.mount.do(unlink(b"f%d" % number))).errno == 0

    async def write(self, name: bytes, number: int, since: int | None = None) -> int:
        """errno of making block `number` the content of a new file."""
        file = self.mount.create(name)
        await self.mount.do(file)
        return (await self.mount.do(write_block(file.ino, number, since=since))).errno

    async def delete_number(self) -> int:
        number: int = (await self.mount.keep_alive()).delete_number
        return number


async def in_scene(test: Callable[[Scene], Awaitable[None]]) -> MemoryEngine:
    engine, network = MemoryEngine(), MemoryNetwork()
    async with running(
        engine, network=network, garbage_grace_s=GRACE_S, session_ttl_s=1000.0
    ) as server:
        scene = Scene(engine, server, await Mount.arrive(server))
        async with trio.open_nursery() as nursery:
            for chunk in scene.chunks:
                nursery.start_soon(chunk.run, network, server)
            await trio.sleep(1)
            await test(scene)
            nursery.cancel_scope.cancel()
    assert_sound(engine)
    return engine


async def test_garbage_goes_after_its_grace_from_every_server(autojump_clock: object) -> None:
    async def test(scene: Scene) -> None:
        await scene.make_garbage(1, 2)
        await trio.sleep(GRACE_S - 2)
        assert [chunk.deleted for chunk in scene.chunks] == [[], []]
        await trio.sleep(15)
        for chunk in scene.chunks:
            assert sorted(chunk.deleted) == [block_id(1), block_id(2)]
        for number in (1, 2):
            keys = [block_key(block_id(number)), garbage_key(block_id(number))]
            assert scene.engine.get(keys) == [None, None]

    await in_scene(test)


async def test_what_is_used_again_in_time_stays(autojump_clock: object) -> None:
    async def test(scene: Scene) -> None:
        await scene.make_garbage(1)
        await trio.sleep(GRACE_S / 2)
        assert await scene.write(b"again", 1) == 0
        await trio.sleep(4 * GRACE_S)
        assert scene.chunks[0].deleted == []
        assert ref_of(scene.engine, block_id(1)) == BlockRef(1, 65536)

    await in_scene(test)


async def test_a_condemned_block_is_refused_until_it_is_forgotten(autojump_clock: object) -> None:
    async def test(scene: Scene) -> None:
        seen: list[int] = []

        async def try_now() -> None:
            if not seen:
                seen.append(await scene.write(b"refused", 1))

        scene.chunks[0].before_delete = try_now
        before = await scene.delete_number()
        await scene.make_garbage(1)
        await trio.sleep(GRACE_S + 10)
        assert seen == [errno.EAGAIN]
        # An upload from before the deletion may have found the old copy "there already".
        assert await scene.write(b"too old", 1, since=before) == errno.EAGAIN
        after = await scene.delete_number()
        assert after > before
        assert await scene.write(b"new", 1, since=after) == 0
        assert ref_of(scene.engine, block_id(1)) == BlockRef(1, 65536)

    await in_scene(test)


@pytest.mark.expects_warnings
async def test_a_server_that_does_not_answer_postpones_the_rest(autojump_clock: object) -> None:
    """Condemned blocks stay condemned until all have deleted them; the order grows."""

    async def test(scene: Scene) -> None:
        async def refuse() -> None:
            raise Fenced("something newer came by")

        before = await scene.delete_number()
        scene.chunks[1].before_delete = refuse
        await scene.make_garbage(1)
        await trio.sleep(GRACE_S + 8)
        assert scene.chunks[0].deleted == [block_id(1)]
        ref = ref_of(scene.engine, block_id(1))
        assert ref is not None
        assert ref.is_condemned
        assert await scene.delete_number() == before
        scene.chunks[1].before_delete = None
        await trio.sleep(2 * GRACE_S + 10)
        assert ref_of(scene.engine, block_id(1)) is None
        orders = scene.chunks[0].orders
        assert len(orders) == 2
        assert orders[0] < orders[1] == scene.chunks[1].orders[-1]

    await in_scene(test)


async def test_nothing_is_condemned_while_a_server_is_down(autojump_clock: object) -> None:
    async def test(scene: Scene) -> None:
        scene.chunks[1].is_reporting = False
        await trio.sleep(8)
        await scene.make_garbage(1)
        await trio.sleep(4 * GRACE_S)
        assert scene.chunks[0].deleted == []
        ref = ref_of(scene.engine, block_id(1))
        assert ref is not None
        assert not ref.is_condemned
        assert await scene.write(b"again", 1) == 0

    await in_scene(test)


async def test_a_restart_takes_up_what_was_condemned(autojump_clock: object) -> None:
    engine, network = MemoryEngine(), MemoryNetwork()
    settings: dict[str, Any] = {"network": network, "garbage_grace_s": GRACE_S}
    async with running(engine, **settings) as server:
        scene = Scene(engine, server, await Mount.arrive(server))
        await scene.make_garbage(1)
        ref = ref_of(engine, block_id(1))
        assert ref is not None
    engine.commit({}, {block_key(block_id(1)): encode_record(BlockRef(0, 65536, True))})
    async with running(engine, **settings) as server, trio.open_nursery() as nursery:
        chunk = Chunk(1, engine)
        nursery.start_soon(chunk.run, network, server)
        await trio.sleep(3 * GRACE_S)
        assert chunk.deleted == [block_id(1)]
        nursery.cancel_scope.cancel()
    assert ref_of(engine, block_id(1)) is None
    assert_sound(engine)
