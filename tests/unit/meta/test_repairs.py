from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
import trio
from msgspec.structs import replace

from dfs.core.messages import GetRecords, Lookup, RepairRecords, StatFs
from dfs.core.namespace.keys import COUNTERS_KEY, FENCE_KEY, VOLUME_KEY, dentry_key, inode_key
from dfs.core.namespace.records import Dentry, Inode, decode_record, encode_record
from dfs.engine.memory_engine import MemoryEngine
from dfs.errors import FsError
from dfs.types import ROOT, InodeId, SessionId
from tests.unit.meta.rig import Background, Link, Mount, Threads, assert_sound, running, settle

if TYPE_CHECKING:
    from collections.abc import Mapping


async def repair(
    mount: Mount, checks: Mapping[bytes, bytes | None], puts: Mapping[bytes, bytes | None]
) -> int:
    """errno of the repair."""
    try:
        await mount.ask(RepairRecords(checks=dict(checks), puts=dict(puts)))
    except FsError as error:
        return error.errno
    return 0


async def value_of(mount: Mount, key: bytes) -> bytes | None:
    return dict((await mount.ask(GetRecords(keys=(key,)))).rows).get(key)


async def test_a_repair_is_seen_at_once_and_counted() -> None:
    """Records in memory follow, and so do the totals."""
    engine = MemoryEngine()
    async with running(engine) as server:
        mount = await Mount.arrive(server)
        create = mount.create(b"a")
        await mount.do(create)
        key = inode_key(create.ino)
        old = await value_of(mount, key)
        assert old is not None
        fixed = replace(decode_record(Inode, old), size=77)
        assert await repair(mount, {key: old}, {key: encode_record(fixed)}) == 0
        assert (await mount.getattr(create.ino)).size == 77
        root_key = inode_key(ROOT)
        root = await value_of(mount, root_key)
        assert root is not None
        emptied = encode_record(replace(decode_record(Inode, root), size=0))
        name = dentry_key(ROOT, b"a")
        assert await repair(mount, {}, {key: None, name: None, root_key: emptied}) == 0
        with pytest.raises(FsError, match="ENOENT"):
            await mount.ask(Lookup(parent=ROOT, name=b"a"))
        assert (await mount.ask(StatFs())).inode_count == 1
    assert_sound(engine)


async def test_a_record_that_changed_since_is_left_alone() -> None:
    engine = MemoryEngine()
    async with running(engine) as server:
        mount = await Mount.arrive(server)
        await mount.do(mount.create(b"a"))
        key = inode_key(ROOT)
        stale = await value_of(mount, key)
        await mount.do(mount.create(b"b"))
        name = dentry_key(ROOT, b"a")
        assert await repair(mount, {key: stale}, {name: None}) == errno.EAGAIN
        assert await repair(mount, {name: None}, {name: None}) == errno.EAGAIN
        assert await value_of(mount, name) is not None
    assert_sound(engine)


async def test_a_record_that_is_just_being_changed_is_left_alone() -> None:
    engine, threads = MemoryEngine(), Threads()
    async with running(engine, threads) as server, trio.open_nursery() as nursery:
        mount = await Mount.arrive(server)
        key = inode_key(ROOT)
        old = await value_of(mount, key)
        assert old is not None
        threads.hold_commits()
        Background(nursery, lambda: mount.do(mount.create(b"a")))
        await settle()
        assert await repair(mount, {key: old}, {key: old}) == errno.EAGAIN
        threads.release_commits()
    assert_sound(engine)


async def test_what_makes_no_sense_is_refused() -> None:
    engine = MemoryEngine()
    async with running(engine) as server:
        mount = await Mount.arrive(server)
        before = await value_of(mount, COUNTERS_KEY)
        for puts in (
            {},
            {FENCE_KEY: None},
            {VOLUME_KEY: None},
            {b"\0\0Q1": b"x"},
            {b"\0\0Q1": None},
            {b"\0\0C" + bytes(600): None},
            {inode_key(ROOT): b"\x01nonsense"},
            {inode_key(ROOT): b""},
            {dentry_key(ROOT, b"%d" % n): None for n in range(600)},
        ):
            assert await repair(mount, {}, puts) == errno.EINVAL  # type: ignore[arg-type]
        assert await value_of(mount, COUNTERS_KEY) == before
    assert_sound(engine)


async def test_a_repair_waits_for_those_who_remember_what_it_changes() -> None:
    """Goal: a repair is a change like any other (I4). Method: one remembers the inode and another
    its directory, of which the repair takes a name."""
    engine = MemoryEngine()
    async with running(engine) as server, trio.open_nursery() as nursery:
        mount = await Mount.arrive(server, wants_leases=True)
        other = await Mount.arrive(server, 2, wants_leases=True)
        create = mount.create(b"a")
        await mount.do(create)
        await mount.give_back(ROOT, create.ino)
        assert await mount.remember(create.ino)
        assert (await other.lookup(b"none")).is_entry_leased
        root_key = inode_key(ROOT)
        root = await value_of(mount, root_key)
        assert root is not None
        puts = {
            inode_key(create.ino): None,
            dentry_key(ROOT, b"a"): None,
            root_key: encode_record(replace(decode_record(Inode, root), size=0)),
        }
        fixing = Background(nursery, lambda: repair(mount_at(server), {root_key: root}, puts))
        await settle()
        [of_file], [of_name] = await mount.hear_recalls(), await other.hear_recalls()
        assert of_file.touched == {create.ino: ()}
        assert of_name.touched == {ROOT: (b"a",)}
        await mount.answer(of_file)
        await settle()
        assert not fixing.is_over
        await other.answer(of_name)
        await settle()
        assert fixing.result == 0
        assert (await other.lookup(b"a")).is_entry_leased
    assert_sound(engine)


@pytest.mark.expects_warnings
async def test_damaged_bytes_can_be_replaced() -> None:
    engine = MemoryEngine()
    async with running(engine) as server:
        mount = await Mount.arrive(server)
        create = mount.create(b"a")
        await mount.do(create)
    key, name = inode_key(create.ino), dentry_key(ROOT, b"a")
    [good] = engine.get([key])
    assert good is not None
    engine.commit({}, {key: b"\x01damaged"})
    async with running(engine) as server:
        with pytest.raises(FsError, match="EIO"):
            await mount_at(server).getattr(create.ino)
        asking = mount_at(server)
        assert await repair(asking, {key: b"\x01damaged"}, {key: good}) == 0
        assert (await asking.getattr(create.ino)).ino == create.ino
        entry = encode_record(Dentry(InodeId(create.ino), 0o100000))
        assert await repair(asking, {}, {name: entry}) == 0


def mount_at(server: object) -> Mount:
    """Someone without a session, as fsck is."""
    return Mount(server, Link(5), SessionId(0), 0, 0)  # type: ignore[arg-type]
