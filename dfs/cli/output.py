"""How commands show things: tables for people, JSON for programs, progress on stderr."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

import click
import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from rich.console import Console, RenderableType
    from rich.table import Table

UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")

json_option = click.option("--json", "is_json", is_flag=True, help="Print JSON for programs.")


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))


def print_json_line(document: bytes) -> None:
    """One JSON document of a row of them: a line, which is there at once."""
    assert b"\n" not in document
    click.echo(document)
    sys.stdout.flush()


def size_text(count: float) -> str:
    """Bytes for people: `1.5 GiB`."""
    assert count >= 0
    for unit in UNITS[:-1]:
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} {UNITS[-1]}"


def span_text(seconds: float) -> str:
    """A length of time for people: `2 h 5 min`."""
    assert seconds >= 0
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "") -> None:
    """A table on stdout; columns whose name starts with ">" are right-aligned."""
    _console().print(table_of(columns, rows, title=title))


def _console() -> Console:
    from rich.console import Console

    # Output that is not a terminal (a file, a pipe) must not be cut to a guessed width.
    return Console(highlight=False, width=None if sys.stdout.isatty() else 200)


@contextlib.contextmanager
def live_output() -> Iterator[Callable[[RenderableType], None]]:
    """Gives a function that shows something in the place of what it showed before; each below the
    other where output is not a terminal."""
    console = _console()
    if not sys.stdout.isatty():
        yield console.print
        return
    from rich.live import Live

    with Live(console=console, auto_refresh=False) as live:
        yield lambda shown: live.update(shown, refresh=True)


def table_of(columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "") -> Table:
    """A table to show; see `print_table`."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", box=box.SIMPLE, title_style="bold")
    for column in columns:
        table.add_column(column.removeprefix(">"), justify="right" if column[0] == ">" else "left")
    for row in rows:
        assert len(row) == len(columns)
        table.add_row(*map(escape, row))
    return table


@contextlib.contextmanager
def progress_line(text: str) -> Iterator[Callable[[str], None]]:
    """Gives a function that says what is going on; shown only on a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console

    with Console(stderr=True).status(text) as status:
        yield lambda message: status.update(message)


@contextlib.contextmanager
def progress_bar(text: str) -> Iterator[Callable[[str, int, int], None]]:
    """Gives a function (stage, done, total) that moves a bar; shown only on a terminal.

    A total of 0 means that it is not known.
    """
    if not sys.stderr.isatty():
        yield lambda _stage, _done, _total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(text, total=None)

        def move(stage: str, done: int, total: int) -> None:
            progress.update(task, description=stage, completed=done, total=total or None)

        yield move
