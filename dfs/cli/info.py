"""`dfs info`."""

from __future__ import annotations

import errno
import os
import stat
import time
from typing import Any

import click
import msgspec

from dfs.cli.output import json_option, print_json, print_table, size_text
from dfs.cli.target import ask_mount
from dfs.errors import UserError
from dfs.limits import NS_PER_S

INFO_XATTR = "dfs.info"
EXTENTS_PRINTED = 20


@click.command()
@click.argument("path")
@json_option
def command(path: str, is_json: bool) -> None:
    """Show an inode's record, extents and blocks, and where their copies are.

    PATH is on a dfs mount; a symbolic link is shown itself, not followed.
    """
    report = _ask(path)
    if is_json:
        print_json(report)
    else:
        _print_for_people(path, report)


def _ask(path: str) -> dict[str, Any]:
    try:
        # What was written but not flushed yet has no blocks to show.
        _flush(path)
        answer: dict[str, Any] = msgspec.json.decode(
            os.getxattr(path, INFO_XATTR, follow_symlinks=False)
        )
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.ENODATA):
            raise UserError(f"{path}: not on a dfs mount", exit_status=2) from None
        ask_mount(path)  # says it if the mount is dead
        raise UserError(f"{path}: {error.strerror}") from None
    return answer


def _flush(path: str) -> None:
    if not stat.S_ISREG(os.lstat(path).st_mode) or not os.access(path, os.R_OK):
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _print_for_people(path: str, report: dict[str, Any]) -> None:
    inode = report["inode"]
    click.echo(f"{path}: inode {inode['ino']}, {stat.filemode(inode['mode'])}")
    click.echo(f"  owner    {inode['uid']}:{inode['gid']}, {inode['nlink']} names")
    click.echo(f"  size     {inode['size']} bytes, {size_text(inode['stored_bytes'])} stored")
    for name in ("btime", "mtime", "ctime", "atime"):
        click.echo(f"  {name}    {_time_text(inode[name + '_ns'])}")
    if inode["target"]:
        click.echo(f"  target   {inode['target']}")
    click.echo(f"  xattrs   {inode['xattr_count']}; content version {inode['data_version']}")
    if stat.S_ISREG(inode["mode"]):
        _print_extents(report)


def _print_extents(report: dict[str, Any]) -> None:
    extents, servers = report["extents"], report["servers"]
    click.echo(f"  extents  {report['extent_count']}, {report['copies']} copies of each block")
    rows = [
        [
            str(one["offset"]),
            str(one["length"]),
            one.get("block_id", "")[:16] or "inline",
            str(one.get("block_offset", 0)),
            " ".join(_place(servers[index]) for index in one.get("servers", ())),
        ]
        for one in extents[:EXTENTS_PRINTED]
    ]
    if rows:
        print_table([">offset", ">length", "block", ">at", "should be on"], rows)
    if report["extent_count"] > len(rows):
        click.echo(f"  … and {report['extent_count'] - len(rows)} more extents")


def _place(server: dict[str, Any]) -> str:
    state = "" if server["state"] == "up" else f" ({server['state']})"
    return f"{server['zone']}{state}"


def _time_text(ns: int) -> str:
    seconds, rest = divmod(ns, NS_PER_S)
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) + f".{rest:09d}"
