"""Goal: whatever people have at hand names the cluster, and what does not is refused clearly."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from dfs.cli import target as target_module
from dfs.cli.target import (
    ask_mount,
    mount_attribute,
    resolve_target,
    split_subdirectory,
)
from dfs.cluster.directory import ClusterDirectory, ClusterSettings
from dfs.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target_module, "running_clusters", list)


def test_addresses(tmp_path: Path) -> None:
    assert resolve_target("meta1:7400,meta2:7400").addresses == ("meta1:7400", "meta2:7400")
    assert resolve_target("[::1]:7400").addresses == ("[::1]:7400",)
    assert resolve_target(f"unix:{tmp_path}/s").addresses == (f"unix:{tmp_path}/s",)


@pytest.mark.parametrize("text", ["meta1:x", "meta1:7400,", "unix:", "a:b:c", "host:99999"])
def test_bad_addresses_are_wrong_usage(text: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve_target(text)
    assert caught.value.exit_status == 2


def test_a_directory_of_a_local_cluster(tmp_path: Path) -> None:
    place = ClusterDirectory(tmp_path / "c:1")
    place.write_settings(ClusterSettings(chunk_servers=1, copies=1, mountpoint="/m"))
    found = resolve_target(str(tmp_path / "c:1"))
    assert found.addresses == (place.meta_address,)
    assert found.local is not None


def test_a_path_on_a_mount(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    answer = b'{"pid":7,"addresses":["h:1","h:2"],"mountpoint":"/m","later":true}'
    monkeypatch.setattr(os, "getxattr", lambda path, name: answer)
    found = resolve_target(str(tmp_path))
    assert found.addresses == ("h:1", "h:2")
    assert found.local is None
    asked = ask_mount(str(tmp_path))
    assert asked is not None
    assert asked.pid == 7


@pytest.mark.parametrize("number", [errno.ENOTCONN, errno.EACCES, errno.EIO])
def test_a_mount_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int
) -> None:
    def fail(path: str, name: str) -> bytes:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "getxattr", fail)
    with pytest.raises(
        UserError, match="dfs umount" if number == errno.ENOTCONN else str(tmp_path)
    ):
        resolve_target(str(tmp_path))


@pytest.mark.parametrize(
    ("number", "is_mount", "words"),
    [
        (errno.EBUSY, True, "come again"),
        (errno.ENODATA, True, "an older dfs"),
        (errno.EOPNOTSUPP, True, "an older dfs"),
        (errno.EOPNOTSUPP, False, "not on a dfs mount"),
        (errno.ENOENT, False, "No such file"),
        (errno.EIO, True, "Input/output error"),
        (errno.ENOTCONN, False, "the mount is dead"),
    ],
)
def test_an_attribute_that_cannot_be_had(
    monkeypatch: pytest.MonkeyPatch, number: int, is_mount: bool, words: str
) -> None:
    def getxattr(path: str, name: str) -> bytes:
        if name == "user.dfs.mount" and is_mount:
            return b'{"pid": 1, "addresses": [], "mountpoint": "/m"}'
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(os, "getxattr", getxattr)
    with pytest.raises(UserError, match=words) as caught:
        mount_attribute("/m", "system.dfs.x", refusals={errno.EBUSY: "come again"})
    assert str(caught.value).startswith("/m: ")


def test_an_attribute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getxattr", lambda path, name: f"{path} {name}".encode())
    assert mount_attribute("/m", "system.dfs.x") == b"/m system.dfs.x"


def test_anything_else_is_wrong_usage(tmp_path: Path) -> None:
    for text in (str(tmp_path), str(tmp_path / "missing"), "word"):
        with pytest.raises(UserError, match="neither") as caught:
            resolve_target(text)
        assert caught.value.exit_status == 2


def test_without_target_the_only_running_cluster(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="dfs up"):
        resolve_target(None)
    one, other = ClusterDirectory(tmp_path / "a"), ClusterDirectory(tmp_path / "b")
    monkeypatch.setattr(target_module, "running_clusters", lambda: [one])
    assert resolve_target(None).addresses == (one.meta_address,)
    monkeypatch.setattr(target_module, "running_clusters", lambda: [one, other])
    with pytest.raises(UserError, match="several") as caught:
        resolve_target(None)
    assert str(other.top) in str(caught.value)


def test_subdirectories_behind_a_target(tmp_path: Path) -> None:
    assert split_subdirectory("h:1") == ("h:1", "/")
    assert split_subdirectory("h:1:/a/b") == ("h:1", "/a/b")
    assert split_subdirectory("h:1,h:2:/") == ("h:1,h:2", "/")
    assert split_subdirectory("unix:/run/s:/a:/b") == ("unix:/run/s", "/a:/b")
    assert split_subdirectory("unix:/run/s") == ("unix:/run/s", "/")
    assert split_subdirectory(f"{tmp_path}:/a") == (str(tmp_path), "/a")
    odd = tmp_path / "a:"
    (odd / "b").mkdir(parents=True)
    assert split_subdirectory(str(odd / "b")) == (str(odd / "b"), "/")
