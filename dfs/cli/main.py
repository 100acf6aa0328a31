"""The program `dfs`: finds the command, runs it, turns every failure into one line and a status.

Exit status: 0 fine, 1 a problem was found or the work failed, 2 wrong usage. Commands are imported
only when they run, so that `dfs --help` is quick.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from dfs.errors import DfsError, UserError, leaves_of

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = {
    "up": "Start a whole cluster on this machine, mounted.",
    "down": "Flush, unmount and stop a local cluster.",
    "mount": "Mount a volume, or a directory of it.",
    "umount": "Unmount; returns when everything is durable.",
    "status": "Show servers, capacity, health and sessions.",
    "fsck": "Check every invariant of a live or stopped cluster.",
    "info": "Show an inode's record, its blocks and where they are.",
    "stats": "Show what a mount is doing, once or again and again.",
    "profile": "Show where a mount's process spends its time.",
    "bench": "Measure a mount quickly.",
    "meta": "Run a metadata server in the foreground.",
    "chunk": "Run a chunk server in the foreground.",
}
"""Public commands in the order of the help page; each is `dfs/cli/NAME.py` with a `command`."""
HIDDEN = {"mount-helper": "system_mount", "supervise": "supervise"}
INTERRUPTED_STATUS = 130


class LazyGroup(click.Group):
    """Knows its commands by name and imports the one that is run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS and cmd_name not in HIDDEN:
            return None
        module = importlib.import_module(f"dfs.cli.{HIDDEN.get(cmd_name, cmd_name)}")
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _print_version(ctx: click.Context, _: click.Parameter, is_wanted: bool) -> None:
    if is_wanted and not ctx.resilient_parsing:
        from dfs.version import version

        click.echo(f"dfs {version()}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
def program() -> None:
    """dfs: a distributed POSIX filesystem, mounted as a drive.

    TARGET names a cluster by what is at hand: a mount point or any path on it, a local cluster's
    directory, or metadata servers' addresses (HOST:PORT[,HOST:PORT...] or unix:PATH). Without it,
    the only cluster that `dfs up` has running.

    Exit status: 0 fine, 1 a problem was found or the work failed, 2 wrong usage.
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Exit status of the command line. Prints at most one line about a failure."""
    try:
        status = program.main(args=arguments, prog_name="dfs", standalone_mode=False)
    except click.UsageError as error:
        return _complain(_usage_line(error), 2)
    except click.ClickException as error:
        return _complain(error.format_message(), 2)
    except click.Abort:
        return INTERRUPTED_STATUS
    except BrokenPipeError:
        # Whoever read our output has left; Python must not complain about it at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (Exception, KeyboardInterrupt, BaseExceptionGroup) as error:
        if any(isinstance(leaf, KeyboardInterrupt) for leaf in leaves_of(error)):
            return INTERRUPTED_STATUS
        expected = expected_error(error)
        if expected is None:
            raise
        return _complain(error_line(expected), exit_status_of(expected))
    return status if isinstance(status, int) else 0


def expected_error(error: BaseException) -> Exception | None:
    """The DfsError or OSError that `error` is or holds, if it holds nothing worse."""
    leaves = list(leaves_of(error))
    if not all(isinstance(leaf, DfsError | OSError) for leaf in leaves):
        return None
    first = leaves[0]
    assert isinstance(first, Exception)
    return first


def error_line(error: Exception) -> str:
    """What a person needs to know, in one line."""
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        return f"{name}{error.strerror or error}"
    return " ".join(str(error).split()) or type(error).__name__


def exit_status_of(error: Exception) -> int:
    return error.exit_status if isinstance(error, UserError) else 1


def _usage_line(error: click.UsageError) -> str:
    path = error.ctx.command_path if error.ctx else "dfs"
    return f"{' '.join(error.format_message().split())} (see {path} --help)"


def _complain(line: str, status: int) -> int:
    click.echo(f"dfs: {line}", err=True)
    return status
