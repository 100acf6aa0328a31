"""How many calls were made to a server, and how long their answers took."""

from __future__ import annotations

from collections import Counter

from dfs.limits import NS_PER_S


class CallCounts:
    """By the name of the request's class; `answered` and `waited_ns` go without broken calls."""

    __slots__ = ("answered", "sent", "waited_ns")

    def __init__(self) -> None:
        self.sent: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.waited_ns: Counter[str] = Counter()
        """Of all answered ones together."""

    def note_answer(self, name: str, waited_s: float) -> None:
        """A reply came, perhaps one that says why not."""
        assert waited_s >= 0
        self.answered[name] += 1
        self.waited_ns[name] += int(waited_s * NS_PER_S)

    def add(self, other: CallCounts) -> None:
        """Count what the other one has counted, too."""
        self.sent.update(other.sent)
        self.answered.update(other.answered)
        self.waited_ns.update(other.waited_ns)
