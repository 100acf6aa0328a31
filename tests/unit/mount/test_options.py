"""Goal: every word after -o is understood, passed on, ignored on purpose, or refused by name."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from dfs.errors import UserError
from dfs.mount import options
from dfs.mount.options import fuse_options, parse_options

if TYPE_CHECKING:
    from pathlib import Path


def test_words_are_sorted_out() -> None:
    parsed = parse_options("ro,defaults,_netdev,x-systemd.automount,nonempty,max_read=4096,noatime")
    assert parsed.passed_on == ("ro", "max_read=4096", "noatime")
    assert parsed.is_nonempty_fine
    assert parsed.is_read_only
    assert parse_options("") == parse_options(",,")
    assert not parse_options("rw").is_read_only


@pytest.mark.parametrize(
    "text", ["rosebud", "ro,allow_othr", "max_read", "max_read=x", "nonempty=1"]
)
def test_what_is_not_known_is_refused_by_name(text: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_options(text)
    assert caught.value.exit_status == 2
    assert text.split(",")[-1].split("=")[0] in str(caught.value)


def test_root_mounts_like_other_filesystems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    chosen = fuse_options(parse_options("nosuid,noexec"), "host:1,host:2")
    assert {"default_permissions", "allow_other", "dev", "nosuid", "noexec"} <= chosen
    assert "suid" not in chosen
    assert "fsname=host:1\\,host:2" in chosen
    assert "subtype=dfs" in chosen
    assert "allow_other" not in fuse_options(parse_options("allow_root"), "x")


def test_others_need_permission_for_allow_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(options, "FUSE_CONF", tmp_path / "fuse.conf")
    assert "allow_other" not in fuse_options(parse_options(""), "x")
    with pytest.raises(UserError, match="user_allow_other"):
        fuse_options(parse_options("allow_other"), "x")
    (tmp_path / "fuse.conf").write_text("# comment\nuser_allow_other\n")
    assert "allow_other" in fuse_options(parse_options("allow_other"), "x")
