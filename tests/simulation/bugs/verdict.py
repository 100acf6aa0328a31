"""What a run came to, and what may be called a proof that a bug is found."""

from __future__ import annotations

import re
import traceback

import msgspec

WORDS_MAX = 120
BLOCK_NAME = re.compile(r"(?<=[0-9a-f]{8})[0-9a-f]{8,}")
"""Its end says nothing to people."""
DOES_NOT_WORK = (NameError, TypeError, AttributeError, ImportError)
"""What code raises that could never have worked: such a bug proves nothing."""


class Verdict(msgspec.Struct, frozen=True):
    """How a run ended."""

    how: str = "clean"
    """What said that something is wrong: checker (or a model), assertion (of the product), error
    (that an application was told), hang; `broken` if it is the bug that does not work."""
    words: str = ""

    @property
    def is_clean(self) -> bool:
        return self.how == "clean"

    @property
    def is_found(self) -> bool:
        return self.how not in ("clean", "broken")


def verdict_on(problem: str, error: BaseException | None) -> Verdict:
    """The verdict on a run with this problem (empty: none), which the error showed, if one did."""
    if not problem:
        return Verdict()
    how, leaf = _how(error)
    return Verdict(how, (problem if leaf is None else _words(leaf))[:WORDS_MAX])


def _how(error: BaseException | None) -> tuple[str, BaseException | None]:
    """What kind of proof it is, and the one of the errors that says so."""
    # The product comes in with these, and it must not before a bug is in place.
    import trio

    from dfs.errors import leaves_of
    from tests.simulation.world import Violation

    kinds: dict[str, tuple[type[BaseException], ...]] = {
        "broken": DOES_NOT_WORK,
        "checker": (Violation,),
        "assertion": (AssertionError,),
        "hang": (trio.TooSlowError,),
        "error": (BaseException,),
    }
    leaves = list(leaves_of(error)) if error is not None else []
    found = (
        (how, leaf) for how, types in kinds.items() for leaf in leaves if isinstance(leaf, types)
    )
    return next(found, ("checker", None))


def _words(error: BaseException) -> str:
    """What it says; an assertion without words says its line."""
    from tests.simulation.world import Violation

    if isinstance(error, Violation):
        return BLOCK_NAME.sub("…", str(error))
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, AssertionError) and frames:
        return f"{frames[-1].name}: {frames[-1].line}"
    return BLOCK_NAME.sub("…", f"{type(error).__name__}: {error}")
