"""`python -m tests.simulation.bugs.play BUG SCENARIO SEED …`: runs of the simulation with a bug in
the product (or with none, ""), in a process of its own. Each prints a `Verdict` as one line of
JSON; the first that is not clean is the last.
"""

from __future__ import annotations

import faulthandler
import re
import sys
import traceback
from typing import TYPE_CHECKING

import msgspec
import trio

from tests.simulation.bugs.install import check_installed, install
from tests.simulation.bugs.table import BUGS
from tests.simulation.bugs.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

WORDS_MAX = 120
BLOCK_NAME = re.compile(r"(?<=[0-9a-f]{8})[0-9a-f]{8,}")
"""Its end says nothing to people."""
RUN_S_MAX = 300
"""Real seconds after which a run prints every stack and ends."""
DOES_NOT_WORK = (NameError, TypeError, AttributeError, ImportError)
"""What code raises that could never have worked: such a bug proves nothing."""


def main(arguments: Sequence[str]) -> int:
    name, *runs = arguments
    bug = BUGS[name] if name else None
    if bug is not None:
        install(bug)
    for scenario, seed in zip(runs[::2], runs[1::2], strict=True):
        faulthandler.dump_traceback_later(RUN_S_MAX, exit=True)
        verdict = _play(scenario, int(seed))
        if bug is not None:
            check_installed(bug)
        print(msgspec.json.encode(verdict).decode(), flush=True)
        if not verdict.is_clean:
            break
    return 0


def _play(scenario: str, seed: int) -> Verdict:
    # The product comes in with these, and it must not before the bug is in place.
    from tests.simulation.scenarios import load_scenario
    from tests.simulation.simulator import run

    outcome = run(seed, load_scenario(scenario))
    if not outcome.problem:
        return Verdict()
    how, error = _how(outcome.error)
    words = outcome.problem if error is None else _words(error)
    return Verdict(how, words[:WORDS_MAX])


def _how(error: BaseException | None) -> tuple[str, BaseException | None]:
    """What kind of proof it is, and the one of the errors that says so."""
    from tests.simulation.world import Violation

    kinds: dict[str, tuple[type[BaseException], ...]] = {
        "broken": DOES_NOT_WORK,
        "checker": (Violation,),
        "assertion": (AssertionError,),
        "hang": (trio.TooSlowError,),
        "error": (BaseException,),
    }
    leaves = list(_leaves(error)) if error is not None else []
    found = (
        (how, each) for how, types in kinds.items() for each in leaves if isinstance(each, types)
    )
    return next(found, ("checker", None))


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _words(error: BaseException) -> str:
    """What it says; an assertion says its line."""
    from tests.simulation.world import Violation

    if isinstance(error, Violation):
        return BLOCK_NAME.sub("…", str(error))
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, AssertionError) and frames:
        return f"{frames[-1].name}: {frames[-1].line}"
    return BLOCK_NAME.sub("…", f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
