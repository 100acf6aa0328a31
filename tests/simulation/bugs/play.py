"""`python -m tests.simulation.bugs.play SCENARIO SEED [BUG]`: one run of the simulation with a bug
in the product, in a process of its own; prints a `Verdict` as one line of JSON.
"""

from __future__ import annotations

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

WORDS_MAX = 160
DOES_NOT_WORK = (NameError, TypeError, AttributeError, ImportError)
"""What code raises that could never have worked: such a bug proves nothing."""


def main(arguments: Sequence[str]) -> int:
    scenario, seed, *bugs = arguments
    for name in bugs:
        install(BUGS[name])
    verdict = _play(scenario, int(seed))
    for name in bugs:
        check_installed(BUGS[name])
    print(msgspec.json.encode(verdict).decode())
    return 0


def _play(scenario: str, seed: int) -> Verdict:
    # The product comes in with these, and it must not before the bug is in place.
    from tests.simulation.scenarios import load_scenario
    from tests.simulation.simulator import run

    outcome = run(seed, load_scenario(scenario))
    if not outcome.problem:
        return Verdict(is_found=False)
    how, error = _how(outcome.error)
    words = outcome.problem if error is None else _words(error)
    return Verdict(how != "broken", how, words[:WORDS_MAX])


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
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, AssertionError) and frames:
        return f"{frames[-1].name}: {frames[-1].line}"
    return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
