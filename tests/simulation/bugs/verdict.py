"""What a run with a bug came to, and what may be called a proof."""

from __future__ import annotations

import msgspec


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
