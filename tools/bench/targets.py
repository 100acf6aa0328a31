"""What is measured: directories as they are, and filesystems that are started for the run.

A target is chosen by name (`dfs`, `moosefs`, …) or by a directory; a directory that is called like
one of them is written with a slash (`./dfs`).
"""

from __future__ import annotations

import shutil
import signal
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from tools.bench.rivals import RIVALS
from tools.bench.rivals.mounts import mounts_below, unmount
from tools.bench.rivals.rival import RivalError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

    from tools.bench.rivals.rival import Rival

DFS = "dfs"


@dataclass(frozen=True)
class Target:
    """Something to measure. `mountpoints` has two of the same filesystem if it was started here."""

    name: str
    mountpoints: tuple[Path, ...]
    is_rival: bool = False
    """What fails there is a result, not our failure."""

    @property
    def is_started(self) -> bool:
        return len(self.mountpoints) > 1


class TargetParameter(click.ParamType[str]):
    """The name of what can be started, or the path of a directory that is there."""

    name = "target"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value in RIVALS or Path(value).is_dir():
            return value
        self.fail(f"{value!r} is neither a directory nor one of {', '.join(RIVALS)}", param, ctx)


@contextmanager
def running_targets(
    chosen: Sequence[str], copies: int, say: Callable[[str], None]
) -> Iterator[list[Target]]:
    """The targets in the order chosen, each running; afterwards nothing of them is left.

    Raises RivalError if one cannot be had or started. Who cannot keep so many copies is left out.
    """
    assert copies > 0
    with _signals() as shield, _own_directory(say) as top, ExitStack() as stack:
        try:
            yield [
                target
                for name in chosen
                for target in _made(name, top, copies, stack=stack, say=say)
            ]
        finally:
            shield()


def _made(
    name: str, top: Path, copies: int, *, stack: ExitStack, say: Callable[[str], None]
) -> Iterator[Target]:
    if name not in RIVALS:
        yield Target(name, (Path(name),))
        return
    rival = RIVALS[name]()
    if copies > rival.copies_max:
        say(f"{name}: left out, it keeps {rival.copies_max} here and not {copies} copies")
        return
    directory = top / name
    directory.mkdir()
    rival.install(directory, say)
    say(f"{name}: starting, copies: {copies}")
    # Before the start: half of it may have happened when it fails.
    stack.callback(_stop, rival, say)
    yield Target(name, rival.start(directory, copies), is_rival=name != DFS)


def _stop(rival: Rival, say: Callable[[str], None]) -> None:
    """Whatever it says, the others are stopped too."""
    say(f"{rival.name}: stopping")
    try:
        rival.stop()
    except RivalError as error:
        say(str(error))


@contextmanager
def _own_directory(say: Callable[[str], None]) -> Iterator[Path]:
    """A directory for all that is started; removed, but never through something still mounted."""
    top = Path(tempfile.mkdtemp(prefix="dfs-bench-"))
    try:
        yield top
    finally:
        for place in mounts_below(top):
            unmount(Path(place))
        if left := mounts_below(top):
            say(f"{top} is not removed: something is still mounted on {left[0]}")
        else:
            shutil.rmtree(top, ignore_errors=True)
            if top.exists():
                say(f"{top} could not be removed")


@contextmanager
def _signals() -> Iterator[Callable[[], None]]:
    """SIGTERM interrupts as ^C does. Once the function given is called neither does: whoever is
    stopping is not stopped half-way.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    signal.signal(signal.SIGTERM, _interrupt)

    def shield() -> None:
        for number in numbers:
            signal.signal(number, lambda _number, _frame: None)

    try:
        yield shield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
