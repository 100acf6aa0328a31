"""Goal: one moment is read to its end or not at all; repairs are written at most once.

Method: a client that answers from a script, and the real server.
"""

from __future__ import annotations

import errno
from typing import Any

import pytest
import trio
import trio.testing

from dfs.core.messages import Done, ExportRecords, GetRecords, RecordsReply, StatusReply
from dfs.core.namespace import keys
from dfs.core.namespace.records import Inode, encode_record
from dfs.errors import Disconnected, FsError, NoSpace, Overloaded, UserError
from dfs.fsck.metadata import ExportLost, Metadata, open_metadata
from dfs.limits import SCAN_RECORDS_MAX
from dfs.types import ROOT, ClusterId, ClusterMap, MapEpoch, VolumeSettings
from tests.unit.client.rig import META
from tests.unit.fsck.rig import LARGE, volume

ROW = (b"\0\0Ix", b"\x01")


class Script:
    """Answers requests one after the other with replies, or errors that it raises."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.requests: list[Any] = []

    async def call(self, request: object, **options: object) -> tuple[Any, bytes]:
        await trio.lowlevel.checkpoint()
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer, b""


def _metadata(script: Script) -> Metadata:
    client: Any = script
    return Metadata(client)


async def _pages(script: Script) -> list[Any]:
    return [page async for page in _metadata(script).pages()]


async def test_pages_of_one_export() -> None:
    script = Script(
        RecordsReply(export_id=7, rows=(ROW,), held=(ROOT,)),
        RecordsReply(export_id=7, rows=(ROW, ROW)),
        RecordsReply(export_id=7, rows=()),
    )
    assert await _pages(script) == [((ROW,), (ROOT,)), ((ROW, ROW), ())]
    assert [request.export_id for request in script.requests] == [0, 7, 7]


@pytest.mark.parametrize(
    "error", [Disconnected("gone"), Overloaded("busy"), FsError(errno.ESTALE, "over")]
)
async def test_a_lost_export_is_not_gone_on_with(error: Exception) -> None:
    script = Script(RecordsReply(export_id=7, rows=(ROW,)), error)
    with pytest.raises(ExportLost):
        await _pages(script)
    assert script.requests == [ExportRecords(), ExportRecords(export_id=7)]


async def test_other_errors_of_an_export_pass() -> None:
    with pytest.raises(FsError):
        await _pages(Script(FsError(errno.EIO)))


async def test_records_are_asked_for_in_bounded_requests() -> None:
    wanted = [number.to_bytes(3, "big") for number in range(SCAN_RECORDS_MAX + 5)]
    script = Script(*[RecordsReply(export_id=0, rows=(ROW,))] * 2)
    assert await _metadata(script).records([*wanted, wanted[0]]) == {ROW[0]: ROW[1]}
    assert [len(request.keys) for request in script.requests] == [SCAN_RECORDS_MAX, 5]
    assert await _metadata(Script()).records([]) == {}


async def test_reading_is_patient(autojump_clock: trio.testing.MockClock) -> None:
    script = Script(Disconnected("gone"), RecordsReply(export_id=0, rows=()))
    assert await _metadata(script).records([b"key"]) == {}
    assert script.requests == [GetRecords(keys=(b"key",))] * 2
    with pytest.raises(Disconnected, match="the metadata server was lost in the check: gone"):
        await _metadata(Script(*[Disconnected("gone")] * 1000)).status()


async def test_what_becomes_of_a_repair(autojump_clock: trio.testing.MockClock) -> None:
    status = StatusReply(
        settings=VolumeSettings(ClusterId("c"), 65536),
        cluster_map=ClusterMap(MapEpoch(1), (), copies=2, min_copies=1),
        servers=(),
        sessions=(),
        inode_count=1,
        stored_bytes=0,
        orphan_count=0,
        garbage_count=0,
        version="0",
        uptime_s=1.0,
    )
    assert await _metadata(Script(Done())).repair({}, {b"k": b"v"})
    assert not await _metadata(Script(FsError(errno.EAGAIN))).repair({}, {b"k": b"v"})
    lost = Script(Disconnected("gone"), status)
    assert not await _metadata(lost).repair({}, {b"k": b"v"})
    assert len(lost.requests) == 2, "sent once, then waited for the server"
    with pytest.raises(NoSpace):
        await _metadata(Script(NoSpace("full"))).repair({}, {b"k": b"v"})


async def test_no_address_answers(autojump_clock: trio.testing.MockClock) -> None:
    async with volume() as scene:
        with pytest.raises(UserError, match="no metadata server answers: cannot reach a:1: "):
            async with open_metadata(scene.environment, ["a:1"]):
                pytest.fail("it opened")


async def test_a_chunk_server_is_no_metadata_server(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with volume() as scene:
        with pytest.raises(UserError, match="no metadata server answers: "):
            async with open_metadata(scene.environment, [scene.rig.chunks[0].address]):
                pytest.fail("it opened")


async def test_repair_at_the_real_server(autojump_clock: trio.testing.MockClock) -> None:
    async with volume() as scene, open_metadata(scene.environment, ["a:1", META]) as metadata:
        key = keys.inode_key(scene.ino[LARGE])
        value = (await metadata.records([key]))[key]
        inode = scene.record(key, Inode)
        changed = encode_record(inode.__class__(**{**_fields(inode), "uid": 9}))
        assert not await metadata.repair({key: changed}, {key: value})
        assert not await metadata.repair({key: None}, {key: value})
        assert await metadata.repair({key: value}, {key: changed})
        assert await metadata.records([key]) == {key: changed}
        assert (await metadata.status()).inode_count == 6


def _fields(inode: Inode) -> dict[str, Any]:
    return {name: getattr(inode, name) for name in inode.__struct_fields__}
