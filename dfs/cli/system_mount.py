"""`dfs mount-helper`, hidden: what mount(8) runs as /sbin/mount.dfs for `mount -t dfs` and fstab.

Its arguments are mount(8)'s, and so are its exit statuses: 1 wrong usage, 32 the mount failed.
"""

from __future__ import annotations

import click

from dfs.cli.main import error_line, exit_status_of, expected_error
from dfs.cli.mount import mount_in_background

USAGE_STATUS = 1
FAILED_STATUS = 32


@click.command(hidden=True)
@click.argument("source")
@click.argument("mountpoint")
@click.option("-o", "options", multiple=True)
@click.option("-s", "is_sloppy", is_flag=True, help="Unknown options are no error.")
@click.option("-f", "is_fake", is_flag=True, help="Do everything but the mount itself.")
@click.option("-n", "is_without_mtab", is_flag=True)
@click.option("-v", "is_verbose", is_flag=True)
@click.option("-t", "filesystem_type")
@click.option("-N", "namespace")
def command(
    source: str,
    mountpoint: str,
    options: tuple[str, ...],
    is_sloppy: bool,
    is_fake: bool,
    is_without_mtab: bool,
    is_verbose: bool,
    filesystem_type: str | None,
    namespace: str | None,
) -> int:
    """Mount as mount(8) asks for it."""
    chosen = ",".join(options)
    try:
        if is_sloppy:
            chosen = _known_only(chosen)
        if not is_fake:
            mount_in_background(source, mountpoint, chosen, None)
    except Exception as error:
        expected = expected_error(error)
        if expected is None:
            raise
        click.echo(f"mount.dfs: {error_line(expected)}", err=True)
        return USAGE_STATUS if exit_status_of(expected) == 2 else FAILED_STATUS
    return 0


def _known_only(options: str) -> str:
    from dfs.mount.options import is_known

    return ",".join(word for word in options.split(",") if is_known(word))
