"""What a deliberate bug is: some lines of the product replaced by wrong ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).parents[3]


class DoesNotApply(Exception):
    """The product's source has changed: the bug has to be written anew."""


@dataclass(frozen=True)
class Change:
    """Whole lines of one module, as they are and as the bug has them. Both may begin with an empty
    line, which does not count, so that they can be written below each other."""

    module: str
    old: str
    new: str

    @property
    def path(self) -> Path:
        return TOP.joinpath(*self.module.split(".")).with_suffix(".py")


@dataclass(frozen=True)
class Bug:
    """A way in which dfs could be wrong."""

    name: str
    breaks: str
    """What is wrong, in one sentence."""
    invariant: str
    """The number of the invariant that it breaks first."""
    scenarios: tuple[str, ...]
    """Where it is looked for, the most likely first."""
    changes: tuple[Change, ...]

    @property
    def modules(self) -> list[str]:
        """Which modules it changes, each once."""
        return list(dict.fromkeys(change.module for change in self.changes))


def changed_source(bug: Bug, module: str) -> str:
    """The module's source with the bug in it. Raises DoesNotApply."""
    changes = [change for change in bug.changes if change.module == module]
    # An empty line before it, so that every line begins behind a line's end.
    source = "\n" + changes[0].path.read_text("utf-8")
    for change in changes:
        old, new = ("\n" + text.removeprefix("\n") for text in (change.old, change.new))
        count = source.count(old)
        if count != 1 or not old.endswith("\n") or old == new:
            raise DoesNotApply(f"{bug.name}: {module} has {count} times, not once:{old}")
        source = source.replace(old, new)
    return source.removeprefix("\n")
