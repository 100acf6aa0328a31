"""What a mount has done so far and does at present: the virtual attribute `user.dfs.stats`.

Every handler's requests are counted and timed, always, so that costs well below a microsecond each:
two looks at the clock and a few additions. Everything else is gathered when somebody asks.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import msgspec

from dfs.client.statistics import ClientStatistics

if TYPE_CHECKING:
    from collections.abc import Mapping

TIME_BUCKETS: Final = 48
"""2**47 µs are four years."""


class RequestTimes:
    """The requests of one type, as they begin and end, noted by `answered` (dfs.mount.answers)."""

    __slots__ = ("counts_by_time", "max_s", "started_count", "total_s")

    def __init__(self) -> None:
        self.started_count = 0
        self.total_s = 0.0
        self.max_s = 0.0
        self.counts_by_time = [0] * TIME_BUCKETS
        """At `b` those that took less than 2**b µs, and not less than half of that."""

    def note(self, seconds: float) -> None:
        """One has been answered."""
        self.total_s += seconds
        if seconds > self.max_s:
            self.max_s = seconds
        self.counts_by_time[int(seconds * 1e6).bit_length()] += 1


class RequestFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The requests of one type, as of now."""

    count: int = 0
    """Answered ones."""
    in_work_count: int = 0
    total_s: float = 0.0
    """From the call of the handler to its end, of all answered ones together."""
    max_s: float = 0.0
    """The longest ever."""
    counts_by_time: list[int] = []
    """See `RequestTimes`; zeros at the end are left out."""

    @classmethod
    def of(cls, times: RequestTimes) -> RequestFigures:
        counts = times.counts_by_time.copy()
        count = sum(counts)
        while counts and not counts[-1]:
            counts.pop()
        return cls(
            count=count,
            in_work_count=times.started_count - count,
            total_s=round(times.total_s, 6),
            max_s=round(times.max_s, 6),
            counts_by_time=counts,
        )


class TapFigures(msgspec.Struct, frozen=True):
    """How the tap found requests: by polling, in vain, or asleep."""

    request_count: int = 0
    found_count: int = 0
    vain_count: int = 0
    sleep_count: int = 0


class MountStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What `dfs stats` reads. Counters grow from 0 as long as the process lives."""

    pid: int = 0
    """Another process: the counters began anew."""
    session: int = 0
    age_s: float = 0.0
    """Since counting began, by a clock that is never set."""
    cpu_s: float = 0.0
    """Processor time of the whole process."""
    slow_because: str = ""
    """Why the tap is not used; empty if it is."""
    tap: TapFigures | None = None
    in_work_count: int = 0
    """Requests that are being worked on, but for the one that asked for this."""
    requests: dict[str, RequestFigures] = {}
    """By the name of the handler, as far as there were any."""
    client: ClientStatistics = ClientStatistics()


class Requests:
    """The requests of this process, by type."""

    def __init__(self) -> None:
        self._times: dict[str, RequestTimes] = {}
        self._started_s = time.perf_counter()

    def times_of(self, name: str) -> RequestTimes:
        """Where the requests of this type are to be noted."""
        return self._times.setdefault(name, RequestTimes())

    @property
    def age_s(self) -> float:
        return time.perf_counter() - self._started_s

    @property
    def in_work_count(self) -> int:
        """Requests whose handlers run now."""
        times = self._times.values()
        return sum(each.started_count - sum(each.counts_by_time) for each in times)

    def figures(self, *, asking: str = "") -> dict[str, RequestFigures]:
        """All types of which there were any. `asking`: the type of a request that is not to be
        counted as being worked on: it asks for this."""
        found = {
            name: RequestFigures.of(times)
            for name, times in sorted(self._times.items())
            if times.started_count
        }
        if asking in found:
            in_work_count = found[asking].in_work_count - 1
            assert in_work_count >= 0
            found[asking] = msgspec.structs.replace(found[asking], in_work_count=in_work_count)
        return found


REQUESTS: Final = Requests()
"""There is one mount per process, and a handler finds its times without looking for them."""


def tap_figures(status: Mapping[str, object]) -> TapFigures:
    """Of what the tap says of itself."""
    return msgspec.convert(dict(status), TapFigures)
