"""Goal: a mount starts only where it can, roots where it is told, and disarms what it armed."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from dfs.config import MountConfig
from dfs.errors import Disconnected, UserError
from dfs.mount import main
from dfs.mount.main import find_directory
from dfs.mount.options import parse_options
from dfs.mountpoint import MountEntry
from dfs.types import ROOT
from tests.unit.mount.memory_client import ROOT_CALLER, MemoryClient

if TYPE_CHECKING:
    from pathlib import Path


async def test_the_directory_that_becomes_the_root() -> None:
    client = MemoryClient()
    top = await client.mkdir(ROOT, b"top", 0o755, ROOT_CALLER)
    inner = await client.mkdir(top.ino, b"\xff in", 0o755, ROOT_CALLER)
    await client.mknod(ROOT, b"file", 0o100644, 0, ROOT_CALLER)
    assert await find_directory(client, "/") == ROOT  # type: ignore[arg-type]
    assert await find_directory(client, "//top/\udcff in/") == inner.ino  # type: ignore[arg-type]
    for path, words in [("/top/none", "No such file"), ("/file", "not a directory")]:
        with pytest.raises(UserError, match=words):
            await find_directory(client, path)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="Not a directory"):
        await find_directory(client, "/file/x")  # type: ignore[arg-type]


def room_at(place: Path) -> None:
    config = MountConfig(addresses=("h:1",), mountpoint=str(place))
    main._make_room(config, parse_options(""))


def test_room_is_made_only_by_taking_off_dead_mounts_of_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    taken_off: list[str] = []
    monkeypatch.setattr(main, "DEVICE", "/dev/null")
    monkeypatch.setattr(main, "take_off", lambda path, is_lazy: taken_off.append(path))
    monkeypatch.setattr(main, "is_stale", lambda path: True)
    room_at(tmp_path)
    assert taken_off == []
    for kind, count in [("tmpfs", 0), ("fuse.dfs", 1)]:
        entry = MountEntry(str(tmp_path), kind, "h:1", "0:9")
        monkeypatch.setattr(main, "find_mount", lambda path, entry=entry: entry)
        room_at(tmp_path)
        assert len(taken_off) == count
    monkeypatch.setattr(main, "DEVICE", str(tmp_path / "no-device"))
    with pytest.raises(UserError, match="modprobe fuse"):
        room_at(tmp_path)


def test_the_words_of_a_failure() -> None:
    inner = Disconnected("cannot reach\nh:1")
    assert main._words(BaseExceptionGroup("g", [BaseExceptionGroup("h", [inner])])) == (
        "cannot reach h:1"
    )
    assert main._words(KeyboardInterrupt()) == "KeyboardInterrupt"


@pytest.mark.parametrize(
    ("error", "is_the_end"),
    [
        (OSError(errno.ECONNABORTED, "receive_buf"), True),
        (BaseExceptionGroup("", [ExceptionGroup("", [OSError(errno.ECONNABORTED, "x")])]), True),
        (OSError(errno.EIO, "receive_buf"), False),
        (ExceptionGroup("", [OSError(errno.ECONNABORTED, "x"), ValueError()]), False),
    ],
)
def test_a_connection_that_breaks_off_while_it_is_read_has_ended(
    error: Exception, *, is_the_end: bool
) -> None:
    if is_the_end:
        with main._end_of_connection():
            raise error
    else:
        with pytest.raises(type(error)), main._end_of_connection():
            raise error
