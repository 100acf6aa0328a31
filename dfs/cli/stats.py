"""`dfs stats`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click
import msgspec

from dfs.cli.output import (
    json_option,
    live_output,
    print_json_line,
    progress_line,
    size_text,
    span_text,
    table_of,
)
from dfs.cli.rates import Interval
from dfs.cli.target import mount_attribute
from dfs.errors import UserError
from dfs.mount.statistics import MountStatistics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from dfs.cli.rates import CallRow, RequestRow, Share

STATS_XATTR = "system.dfs.stats"
"""With `system.` the kernel asks the mount nothing else first; see dfs/mount/introspection.py."""
INTERVAL_S_DEFAULT = 1.0
REQUEST_COLUMNS = ["request", ">total", ">count", ">per s", ">mean ms", ">max ms", ">now"]
CALL_COLUMNS = ["server", "message", ">total", ">count", ">per s", ">mean ms"]


@click.command()
@click.argument("mount")
@click.option(
    "--interval",
    "interval_s",
    type=click.FloatRange(0.1, 3600),
    help="Show all since the mount began, then every so many seconds what these were (1).",
)
@click.option(
    "--count", type=click.IntRange(0), help="The same, and end after so many intervals (0: totals)."
)
@json_option
def command(mount: str, interval_s: float | None, count: int | None, is_json: bool) -> None:
    """Show what a mount is doing: requests and their times, leases, ops, dirty data, messages.

    MOUNT is a mount point or any path on it. Alone, this shows one second. With --interval or
    --count it begins with everything since the mount began and goes on until it is interrupted or
    has shown so many intervals. --json prints a line for each look at the mount, counters as they
    are; without --interval or --count, one.
    """
    is_single = interval_s is None and count is None
    wait_s = INTERVAL_S_DEFAULT if interval_s is None else interval_s
    if is_json:
        for value in _values(mount, wait_s, 0 if is_single else count):
            print_json_line(value)
        return
    looks = (_decoded(mount, value) for value in _values(mount, wait_s, 1 if is_single else count))
    if is_single:
        with progress_line("looking for a second"):
            before, after = looks
        _show(mount, before, after)
    else:
        _show_all(mount, looks)


def _values(mount: str, interval_s: float, count: int | None) -> Iterator[bytes]:
    """One value of the attribute now, and one after each of `count` intervals (None: for ever)."""
    due_s = time.monotonic()
    yield mount_attribute(mount, STATS_XATTR)
    while count is None or count > 0:
        due_s = max(due_s + interval_s, time.monotonic())
        time.sleep(max(0.0, due_s - time.monotonic()))
        yield mount_attribute(mount, STATS_XATTR)
        count = None if count is None else count - 1


def _decoded(mount: str, value: bytes) -> MountStatistics:
    try:
        return msgspec.json.decode(value, type=MountStatistics)
    except msgspec.DecodeError as error:
        raise UserError(
            f"{mount}: its mount runs another dfs ({error}); unmount it and mount it again"
        ) from None


def _show(mount: str, before: MountStatistics, after: MountStatistics) -> None:
    with live_output() as show:
        show(_page(mount, _interval(mount, before, after)))


def _show_all(mount: str, looks: Iterator[MountStatistics]) -> None:
    """The totals, and below them interval after interval in one place."""
    before = next(looks)
    _show(mount, MountStatistics(), before)
    with live_output() as show:
        for after in looks:
            show(_page(mount, _interval(mount, before, after)))
            before = after


def _interval(mount: str, before: MountStatistics, after: MountStatistics) -> Interval:
    if before.pid not in (0, after.pid):
        raise UserError(f"{mount}: was mounted anew meanwhile; run this again")
    return Interval(before, after)


def _page(mount: str, interval: Interval) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    shown: list[RenderableType] = [Text("\n".join(_lines(mount, interval)))]
    if requests := interval.requests():
        shown.append(table_of(REQUEST_COLUMNS, map(_request_cells, requests)))
    if calls := interval.calls():
        shown.append(table_of(CALL_COLUMNS, map(_call_cells, calls)))
    return Group(*shown)


def _lines(mount: str, interval: Interval) -> list[str]:
    now, client, ops = interval.after, interval.after.client, interval.ops
    is_all = interval.before.pid == 0
    when = "since the mount began" if is_all else f"in {interval.seconds:.1f} s"
    tap = f"without the tap: {now.slow_because}" if now.slow_because else "with the tap"
    return [
        f"{mount}: process {now.pid}, up {span_text(now.age_s)}, {tap}",
        f"  now      {now.in_work_count:,} requests in work; {ops.unanswered_count:,} ops "
        f"unanswered, {ops.owed_count:,} of them owed",
        f"  leases   {client.leases.inode_count:,} inodes, {client.leases.exclusive_count:,} of "
        f"them exclusive; {client.leases.name_count:,} names",
        f"  dirty    {size_text(client.dirty_bytes)}; {client.promised_count:,} promised files",
        f"  blocks   {size_text(client.block_cache.byte_count)} in memory",
        f"{when}: {interval.cpu_share:.0%} of a processor",
        f"  answers  from leases: {_share_text(interval.lookups)} lookups, "
        f"{_share_text(interval.getattrs)} getattrs",
        f"  frames   from memory: {_share_text(interval.frames)}",
        f"  ops      {ops.done_here_count:,} done here, {ops.asked_count:,} asked, "
        f"{ops.commit_count:,} commits",
    ]


def _share_text(share: Share) -> str:
    return f"{share.count:,} of {share.whole:,}"


def _request_cells(row: RequestRow) -> list[str]:
    return [
        row.name,
        f"{row.total_count:,}",
        f"{row.count:,}",
        f"{row.per_s:,.1f}",
        _ms_text(row.mean_ms),
        _ms_text(row.max_ms, is_exact=row.is_max_exact),
        str(row.in_work_count or ""),
    ]


def _call_cells(row: CallRow) -> list[str]:
    counts = [f"{row.total_count:,}", f"{row.count:,}", f"{row.per_s:,.1f}"]
    return [row.server, row.name, *counts, _ms_text(row.mean_ms)]


def _ms_text(ms: float | None, *, is_exact: bool = True) -> str:
    if ms is None:
        return ""
    return f"{ms:,.3f}" if is_exact else f"≤ {ms:,.3f}"
