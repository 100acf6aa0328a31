"""Goal: ops on what is a client's alone are answered at once, in order, and are durable before
anybody who could tell asks (I3, I4, I5, I8). Method: whole clients; replies of the server that wait
at a gate."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from msgspec.structs import replace

from dfs.client import op_stream
from dfs.core.messages import Recall
from dfs.errors import Disconnected, Fenced, FsError
from dfs.limits import SESSION_TTL_S
from dfs.types import ROOT
from tests.unit.client.rig import META, ROOT_USER, cluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dfs.client.client import Client
    from dfs.client.handles import FileHandle
    from dfs.types import InodeId
    from tests.unit.client.rig import Rig

pytestmark = pytest.mark.usefixtures("autojump_clock")


@asynccontextmanager
async def own_directory(**settings: Any) -> AsyncIterator[tuple[Rig, Client, InodeId]]:
    """A client that has an empty directory alone."""
    async with cluster(chunk_count=0) as rig, rig.client(**settings) as client:
        made = await client.mkdir(ROOT, b"own", 0o755, ROOT_USER)
        await client.sync()
        yield rig, client, made.ino


def close_gate(rig: Rig) -> trio.Event:
    """From now on what the server answers waits until this is set."""
    gate = rig.network.gates[META] = trio.Event()
    return gate


async def set_soon(gate: trio.Event) -> None:
    await trio.sleep(1)
    gate.set()


async def names_in(client: Client, ino: InodeId) -> list[bytes]:
    handle = await client.open_directory(ino)
    return [name async for name, _, _ in client.read_directory(handle)]


async def test_ops_are_answered_at_once_and_durable_later() -> None:
    """Method: no word from the server until all of them were answered; a sync waits for it."""
    async with own_directory() as (rig, client, own), trio.open_nursery() as nursery:
        gate = close_gate(rig)
        directory = await client.mkdir(own, b"d", 0o755, ROOT_USER)
        handle, file = await client.create(directory.ino, b"f", 0o644, ROOT_USER)
        await client.setattr(file.ino, ROOT_USER, mode=0o600)
        await client.rename(directory.ino, b"f", own, b"g", 0, ROOT_USER)
        await client.rmdir(own, b"d", ROOT_USER)
        with pytest.raises(FsError, match="ENOENT"):
            await client.unlink(own, b"f", ROOT_USER)
        assert (await client.lookup(own, b"g")).mode & 0o777 == 0o600
        await client.release(handle)
        is_durable = trio.Event()

        async def sync() -> None:
            await client.sync()
            is_durable.set()

        nursery.start_soon(sync)
        await trio.sleep(1)
        assert not is_durable.is_set()
        gate.set()
        await is_durable.wait()
        assert len(client.meta.ops.journal) == 0


async def test_others_see_all_of_it_in_order() -> None:
    """Goal: whoever looks waits for all that was done before (I4). Method: a chain of directories,
    each renamed after the next was made in it."""
    async with own_directory() as (rig, client, own), rig.client() as other:
        parent = own
        for number in range(40):
            made = await client.mkdir(parent, b"new", 0o755, ROOT_USER)
            await client.rename(parent, b"new", parent, b"%d" % number, 0, ROOT_USER)
            parent = made.ino
        sent = client.meta.calls_sent["ApplyOps"]
        ino = own
        for number in range(40):
            assert await names_in(other, ino) == [b"%d" % number]
            ino = (await other.lookup(ino, b"%d" % number)).ino
        assert ino == parent
        assert client.meta.calls_sent["ApplyOps"] - sent <= 2


async def test_a_client_lists_what_it_has_done_itself() -> None:
    async with own_directory() as (_, client, own):
        for name in (b"a", b"b", b"c"):
            await client.mkdir(own, name, 0o755, ROOT_USER)
        await client.rmdir(own, b"b", ROOT_USER)
        assert await names_in(client, own) == [b"a", b"c"]
        await client.setattr(own, ROOT_USER, mode=0o700)
        handle = await client.open_directory(own)
        assert handle.inode.mode & 0o777 == 0o700


async def test_so_many_ops_are_owed_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(op_stream, "OPS_IN_FLIGHT_MAX", 5)
    async with own_directory() as (rig, client, own), trio.open_nursery() as nursery:
        gate = close_gate(rig)
        made: list[int] = []

        async def make_many() -> None:
            for number in range(12):
                await client.mkdir(own, b"%02d" % number, 0o755, ROOT_USER)
                made.append(number)

        nursery.start_soon(make_many)
        await trio.sleep(1)
        assert len(made) == 5
        gate.set()
        await trio.sleep(1)
        assert len(made) == 12
        assert len(await names_in(client, own)) == 12


async def test_what_may_wait_for_others_is_sent_when_nothing_is_owed() -> None:
    """Goal: else others could wait for what is behind it. Method: an op that is never done here
    follows one that is; until it has its answer none is done here."""
    async with own_directory() as (rig, client, own), trio.open_nursery() as nursery:
        gate = close_gate(rig)
        await client.mkdir(own, b"a", 0o755, ROOT_USER)
        await trio.sleep(0.1)
        sent = client.meta.calls_sent["ApplyOps"]
        nursery.start_soon(client.setxattr, own, b"user.x", b"1", 0, ROOT_USER)
        await trio.sleep(0.1)
        assert client.meta.calls_sent["ApplyOps"] == sent
        assert not client.meta.ops.may_do_here
        nursery.start_soon(client.mkdir, own, b"b", 0o755, ROOT_USER)
        await trio.sleep(0.1)
        assert client.meta.calls_sent["ApplyOps"] == sent, "it waits, too"
        gate.set()
        await trio.sleep(1)
        assert client.meta.ops.may_do_here
        assert await client.getxattr(own, b"user.x") == b"1"
        assert await names_in(client, own) == [b"a", b"b"]


async def test_a_new_file_that_was_closed_is_not_held() -> None:
    """Method: close the file before the server has heard of it."""
    async with own_directory() as (rig, client, own), rig.client() as other:
        gate = close_gate(rig)
        handle, file = await client.create(own, b"f", 0o644, ROOT_USER)
        await client.release(handle)
        gate.set()
        await trio.sleep(5)
        assert client.meta.calls_sent["Release"] == 0
        await other.unlink(own, b"f", ROOT_USER)
        await trio.sleep(5)
        with pytest.raises(FsError, match="ESTALE"):
            await other.getattr(file.ino)


async def test_a_new_file_is_opened_again_before_the_server_knows_it() -> None:
    """Goal: it is held all along. Method: open it, and let another client remove its name."""
    async with own_directory() as (rig, client, own), rig.client() as other:
        gate = close_gate(rig)
        handle, file = await client.create(own, b"f", 0o644, ROOT_USER)
        await client.release(handle)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(set_soon, gate)
            handle = await client.open(file.ino, os.O_RDONLY, ROOT_USER)
        await trio.sleep(5)
        assert client.meta.calls_sent["Open"] == client.meta.calls_sent["Release"] == 0
        await other.unlink(own, b"f", ROOT_USER)
        await trio.sleep(5)
        assert (await client.getattr(file.ino)).nlink == 0
        await client.release(handle)


# ---------------------------------------------------------------- what others have made


TREE = [(b"d%d" % number, [b"f%d" % count for count in range(5)]) for number in range(4)]


@asynccontextmanager
async def tree_of_another() -> AsyncIterator[tuple[Rig, Client, InodeId]]:
    """A client, and a directory that it did not make: TREE, of empty files. Who made it is gone."""
    async with cluster(chunk_count=0) as rig:
        async with rig.client() as maker:
            top = (await maker.mkdir(ROOT, b"top", 0o755, ROOT_USER)).ino
            for name, files in TREE:
                directory = await maker.mkdir(top, name, 0o755, ROOT_USER)
                for file in files:
                    handle, _ = await maker.create(directory.ino, file, 0o644, ROOT_USER)
                    await maker.release(handle)
        async with rig.client() as client:
            yield rig, client, (await client.lookup(ROOT, b"top")).ino


async def entries_in(client: Client, ino: InodeId) -> list[tuple[bytes, InodeId]]:
    handle = await client.open_directory(ino)
    return [(name, inode.ino) async for name, inode, _ in client.read_directory(handle)]


async def test_a_tree_that_another_has_made_is_removed_here() -> None:
    """Goal: after two questions everything beside and below is this client's alone."""
    async with tree_of_another() as (_, client, top):
        sent = client.meta.calls_sent["ApplyOps"]
        asked = 0
        submit = client.meta.ops.outcome

        async def outcome(entry: Any) -> Any:
            nonlocal asked
            asked += 1
            return await submit(entry)

        client.meta.ops.outcome = outcome  # type: ignore[method-assign]
        for name, ino in await entries_in(client, top):
            for file, _ in await entries_in(client, ino):
                await client.unlink(ino, file, ROOT_USER)
            await client.rmdir(top, name, ROOT_USER)
        assert asked == 5, "two files of the first two directories, and the first directory"
        await client.sync()
        assert client.meta.calls_sent["ApplyOps"] - sent < 15
        assert await names_in(client, top) == []


async def test_no_more_is_wanted_than_a_message_may_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: a directory of any size is made one's own part by part."""
    monkeypatch.setattr(op_stream, "WANTED_PER_MESSAGE_MAX", 2)
    async with tree_of_another() as (_, client, top):
        wanted: list[tuple[InodeId, ...]] = []
        call = client.meta.call

        async def note_call(link: Any, request: Any) -> Any:
            wanted.append(getattr(request, "wanted", ()))
            return await call(link, request)

        client.meta.call = note_call  # type: ignore[method-assign]
        [(_, first), *_] = await entries_in(client, top)
        for name, _ in await entries_in(client, first):
            await client.unlink(first, name, ROOT_USER)
        await client.sync()
        assert max(map(len, wanted)) == 2
        assert await names_in(client, first) == []


async def test_attributes_of_what_another_has_made_are_changed_here() -> None:
    async with tree_of_another() as (rig, client, top):
        for _, ino in await entries_in(client, top):
            await client.setattr(ino, ROOT_USER, mode=0o700)
        close_gate(rig)
        for _, ino in await entries_in_memory(client, top):
            await client.setattr(ino, ROOT_USER, mode=0o711)
        rig.network.gates.pop(META).set()
        async with rig.client() as other:
            for _, ino in await entries_in(other, top):
                assert (await other.getattr(ino)).mode & 0o7777 == 0o711


async def entries_in_memory(client: Client, ino: InodeId) -> list[tuple[bytes, InodeId]]:
    found = [(name, client.meta.records.entry(ino, name)) for name, _ in TREE]
    return [(name, child) for name, child in found if child is not None]


async def test_what_others_have_leased_is_not_given_away() -> None:
    """Goal: who remembers something is asked before it changes, whatever was wanted."""
    async with tree_of_another() as (rig, client, top), rig.client() as other:
        [(_, first), (_, second), (_, third), _] = await entries_in(client, top)
        for name, _ in TREE:
            await other.lookup(top, name)
        for mode in (0o700, 0o701, 0o702):
            for ino in (first, second, third):
                await client.setattr(ino, ROOT_USER, mode=mode)
                assert (await other.getattr(ino)).mode & 0o7777 == mode


async def test_a_synchronous_client_answers_what_is_durable() -> None:
    async with (
        own_directory(is_synchronous=True) as (rig, client, own),
        trio.open_nursery() as nursery,
    ):
        gate = close_gate(rig)
        is_made = trio.Event()

        async def make() -> None:
            await client.mkdir(own, b"d", 0o755, ROOT_USER)
            is_made.set()

        nursery.start_soon(make)
        await trio.sleep(1)
        assert not is_made.is_set()
        gate.set()
        await is_made.wait()


# ---------------------------------------------------------------- sessions that are lost


async def lose_session(rig: Rig, client: Client) -> None:
    """Silence until the server has ended the session, and then a link again."""
    rig.network.break_at[META] = 0
    rig.network.unreachable.add(META)
    rig.network.gates.pop(META).set()
    await trio.sleep(2 * SESSION_TTL_S)
    rig.network.unreachable.clear()
    await trio.sleep(10)
    assert await client.getattr(ROOT)


@pytest.mark.expects_warnings
async def test_a_session_that_is_lost_with_changes_is_told_once_per_handle() -> None:
    """Goal: of fsync, of files and directories; whoever opens later hears nothing. Method: changes
    whose answers never come; then the session is over."""
    async with own_directory(patience_s=300.0) as (rig, client, own):
        kept, _ = await client.create(own, b"kept", 0o644, ROOT_USER)
        await client.fsync(kept)
        directory = await client.open_directory(own)
        close_gate(rig)
        await client.mkdir(own, b"lost", 0o755, ROOT_USER)
        await lose_session(rig, client)
        assert client.meta.ops.lost_count == 1
        for _ in range(2):
            with pytest.raises(FsError, match="ENOENT"):
                await client.lookup(own, b"lost")
        later = await client.open_directory(own)
        with pytest.raises(Fenced, match="not durable"):
            await client.fsync(kept)
        with pytest.raises(Fenced, match="not durable"):
            await client.sync_directory(directory)
        for _ in range(2):
            await client.fsync(kept)
            await client.sync_directory(directory)
            await client.sync_directory(later)
        await client.release(kept)


@pytest.mark.expects_warnings
async def test_the_next_change_after_a_loss_fails_once() -> None:
    """Goal: what was to follow on the lost changes does not stand alone (I5)."""
    async with own_directory(patience_s=300.0) as (rig, client, own):
        close_gate(rig)
        await client.mkdir(own, b"lost", 0o755, ROOT_USER)
        await client.mkdir(own, b"lost, too", 0o755, ROOT_USER)
        await lose_session(rig, client)
        with pytest.raises(Fenced, match="not durable"):
            await client.mkdir(own, b"next", 0o755, ROOT_USER)
        await client.mkdir(own, b"again", 0o755, ROOT_USER)
        assert await names_in(client, own) == [b"again"]


@pytest.mark.expects_warnings
async def test_sync_tells_what_nobody_was_told() -> None:
    """Goal: of lost changes, and of lost data. Seed: alone-expiry 22."""
    async with own_directory(patience_s=300.0) as (rig, client, own):
        kept, _ = await client.create(own, b"kept", 0o644, ROOT_USER)
        await client.fsync(kept)
        close_gate(rig)
        await client.mkdir(own, b"lost", 0o755, ROOT_USER)
        await client.write(kept, 0, b"lost")
        await lose_session(rig, client)
        with pytest.raises(Fenced, match="not durable"):
            await client.sync()
        with pytest.raises(Fenced, match="has ended"):
            await client.sync()
        await client.sync()
        await client.release(kept)


@pytest.mark.expects_warnings
async def test_what_is_flushed_in_the_background_does_not_hide_a_loss() -> None:
    """Goal: a commit that was waiting for lost changes is refused, and whoever changes something
    next is told all the same. Seed: alone-expiry 22."""
    async with own_directory(patience_s=300.0) as (rig, client, own):
        shared = await client.create(ROOT, b"shared", 0o644, ROOT_USER)
        await client.fsync(shared[0])
        client.meta.records.recall(Recall(1, {shared[1].ino: ()}, is_shared=True))
        close_gate(rig)
        await client.mkdir(own, b"lost", 0o755, ROOT_USER)
        await client.write(shared[0], 0, b"lost, too")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_fail_to_sync, client, shared[0])
            await trio.testing.wait_all_tasks_blocked()
            await lose_session(rig, client)
        with pytest.raises(Fenced, match="not durable"):
            await client.mkdir(own, b"next", 0o755, ROOT_USER)
        await client.release(shared[0])


async def _fail_to_sync(client: Client, handle: FileHandle) -> None:
    with pytest.raises(Fenced):
        await client.fsync(handle)


@pytest.mark.expects_warnings
async def test_the_next_write_after_a_loss_fails_once() -> None:
    """Goal: neither do bytes that follow on lost changes (I5). Seed: alone-expiry 79."""
    async with own_directory(patience_s=300.0) as (rig, client, own):
        kept, _ = await client.create(own, b"kept", 0o644, ROOT_USER)
        await client.fsync(kept)
        close_gate(rig)
        await client.mkdir(own, b"lost", 0o755, ROOT_USER)
        await lose_session(rig, client)
        with pytest.raises(Fenced, match="not durable"):
            await client.write(kept, 0, b"next")
        await client.write(kept, 0, b"again")
        assert bytes(await client.read(kept, 0, 10)) == b"again"
        await client.release(kept)


@pytest.mark.expects_warnings
async def test_who_waits_for_what_is_lost_hears_of_it() -> None:
    async with (
        own_directory(patience_s=300.0) as (rig, client, own),
        trio.open_nursery() as nursery,
    ):
        directory = await client.open_directory(own)
        close_gate(rig)
        await client.mkdir(own, b"lost", 0o755, ROOT_USER)
        is_told = trio.Event()

        async def sync() -> None:
            with pytest.raises(Fenced):
                await client.sync_directory(directory)
            is_told.set()

        nursery.start_soon(sync)
        await lose_session(rig, client)
        assert is_told.is_set()


@pytest.mark.expects_warnings
async def test_who_waits_for_a_server_that_is_gone_hears_why() -> None:
    async with own_directory(patience_s=5.0) as (rig, client, own):
        directory = await client.open_directory(own)
        close_gate(rig)
        await client.mkdir(own, b"d", 0o755, ROOT_USER)
        with pytest.raises(Disconnected, match="no metadata server"):
            await client.sync_directory(directory)
        rig.network.gates.pop(META).set()
        await client.sync_directory(directory)


async def test_what_becomes_other_than_was_foreseen_ends_the_session(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Goal: nothing is built on it. Method: what is known of the directory is falsified."""
    async with own_directory() as (_, client, own):
        session_id = client.session_id
        false = replace(await client.getattr(own), uid=77)
        client.meta.records.note_exclusive(false)
        await client.setattr(own, ROOT_USER, mode=0o700)
        await trio.sleep(5)
        assert client.session_id != session_id
        assert "became" in caplog.text
        assert (await client.getattr(own)).uid == 0
