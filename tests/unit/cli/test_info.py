"""Goal: what a mount reports of an inode is shown to people, and paths elsewhere are refused."""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING, Any

import msgspec

from dfs.cli import info as info_module
from dfs.cli.main import run
from dfs.mount.introspection import inode_report
from tests.unit.mount.test_attributes import file_inode
from tests.unit.mount.test_introspection import MAP, some_extents

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def reports(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    class Client:
        cluster_map = MAP

    client: Any = Client()
    inode = file_inode(mode=stat.S_IFREG | 0o640, size=count << 20, mtime_ns=-1)
    value = msgspec.json.encode(inode_report(client, inode, some_extents(count)))
    monkeypatch.setattr(os, "getxattr", lambda path, name, follow_symlinks: value)


def test_extents_and_their_servers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "f").touch()
    reports(monkeypatch, 30)
    assert run(["info", str(tmp_path / "f")]) == 0
    said = capsys.readouterr().out
    for words in ("-rw-r-----", "30, 2 copies", "rack", "and 10 more", "1969-12-31"):
        assert words in said
    assert run(["info", str(tmp_path / "f"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["extent_count"] == 30


def test_paths_that_are_not_on_a_mount(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    assert run(["info", str(tmp_path / "f")]) == 2
    assert run(["info", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err.count("\n") == 2
    assert info_module.INFO_XATTR == "dfs.info"
