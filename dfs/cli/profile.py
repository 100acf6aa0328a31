"""`dfs profile`."""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING

import click
import msgspec

from dfs.cli.output import json_option, print_json, print_table, progress_bar
from dfs.cli.target import mount_attribute
from dfs.errors import UserError
from dfs.mount.profiler import SECONDS_MAX, ProfileState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dfs.mount.samples import FunctionShare, ProfileReport

PROFILE_XATTR = "system.dfs.profile"
"""With `system.` the kernel asks the mount nothing else first; see dfs/mount/introspection.py."""
SECONDS_DEFAULT = 5
LATE_S_MAX = 10.0
"""How much longer than it should a profile may take."""
STEP_S = 0.1
_NOT_YOURS = "only root and whoever mounted it may look; run this as one of them"
REFUSALS = {
    errno.EPERM: _NOT_YOURS,
    errno.EACCES: _NOT_YOURS,
    errno.EBUSY: "a profile is being taken already; run this again in a minute",
}


@click.command()
@click.argument("mount")
@click.option(
    "--seconds",
    type=click.IntRange(1, SECONDS_MAX),
    default=SECONDS_DEFAULT,
    show_default=True,
    help="How long to look.",
)
@json_option
def command(mount: str, seconds: int, is_json: bool) -> None:
    """Show where a mount's process spends its time: parts of the program, and functions.

    MOUNT is a mount point or any path on it. For root and whoever mounted it. The mount goes on
    serving; looking takes about 4% of a processor meanwhile.
    """
    number = _ask(mount, f"{PROFILE_XATTR}.{seconds}").number
    report = _report(mount, number, seconds)
    if is_json:
        print_json({"mount": mount, **msgspec.structs.asdict(report)})
    else:
        _print_for_people(mount, report)


def _ask(mount: str, name: str) -> ProfileState:
    """The state; of the start's answer only the number is there."""
    value = mount_attribute(mount, name, refusals=REFUSALS)
    return msgspec.json.decode(value, type=ProfileState)


def _report(mount: str, number: int, seconds: int) -> ProfileReport:
    """What was found, when it is over."""
    started_s = time.monotonic()
    with progress_bar("looking") as move:
        while (waited_s := time.monotonic() - started_s) < seconds:
            move("looking", int(waited_s * 10), seconds * 10)
            time.sleep(STEP_S)
    # Asked only now: answering is work, too.
    while (state := _ask(mount, PROFILE_XATTR)).is_running and state.number == number:
        if time.monotonic() - started_s > seconds + LATE_S_MAX:
            raise UserError(f"{mount}: the profile does not end; the mount's log may say why")
        time.sleep(STEP_S)
    if state.number != number:
        raise UserError(f"{mount}: another profile was begun meanwhile; run this again")
    if state.report is None:
        raise UserError(f"{mount}: the profile failed; the mount's log says why")
    return state.report


def _print_for_people(mount: str, report: ProfileReport) -> None:
    click.echo(
        f"{mount}: {report.seconds:.1f} s, {report.look_count:,} looks, "
        f"{report.cpu_s / report.seconds:.0%} of a processor"
    )
    _print_parts("event loop", report.parts)
    if report.worker_parts:
        _print_parts("worker threads", report.worker_parts)
    _print_functions("most own time", report.most_own)
    _print_functions("most total time", report.most_total)


def _print_parts(name: str, parts: Mapping[str, float]) -> None:
    print_table([name, ">share"], [[part, f"{share:.1%}"] for part, share in parts.items()])


def _print_functions(title: str, functions: Sequence[FunctionShare]) -> None:
    rows = [[f"{one.own:.1%}", f"{one.total:.1%}", one.name, one.place] for one in functions]
    if rows:
        print_table([">own", ">total", "function", "where"], rows, title=title)
