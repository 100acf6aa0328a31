"""What to fetch before it is asked for: a window that grows while a file is read in sequence.

One `ReadAhead` per open file handle. Must not know how anything is fetched.

| state | a read comes | then |
|---|---|---|
| resting | at the file's start, or where the last one ended | run of the smallest window |
| resting | elsewhere | resting |
| run | in or next to what the run has reached | run; the window doubles as it is used up |
| run | elsewhere | resting |
"""

from __future__ import annotations

from dfs.limits import READ_AHEAD_BYTES_MAX, READ_AHEAD_BYTES_MIN

NOTHING = (0, 0)


class ReadAhead:
    """The read-ahead state of one open file. Offsets are of plain bytes in the file."""

    def __init__(
        self,
        *,
        window_bytes_min: int = READ_AHEAD_BYTES_MIN,
        window_bytes_max: int = READ_AHEAD_BYTES_MAX,
    ) -> None:
        assert 0 < window_bytes_min <= window_bytes_max
        self._window_bytes_min = window_bytes_min
        self._window_bytes_max = window_bytes_max
        self._window_bytes = 0
        """0 while resting."""
        self._position = 0
        """Where reading in sequence goes on."""
        self._ahead_end = 0
        """Up to here everything was read or is being fetched. Never below the position."""

    def after_read(self, start: int, end: int, file_bytes: int) -> tuple[int, int]:
        """The range [start, end) to fetch now, after a read of [start, end); empty for none.

        Ranges of one run never overlap, and lie within the file.
        """
        assert 0 <= start <= end
        is_going_on = self._is_going_on(start)
        if not is_going_on:
            self._window_bytes = 0
        is_sequential = is_going_on or start in (0, self._position)
        self._position = max(self._position, end) if is_going_on else end
        if not is_going_on:
            self._ahead_end = end
        self._ahead_end = max(self._ahead_end, self._position)
        return self._advance(file_bytes) if is_sequential else NOTHING

    def _is_going_on(self, start: int) -> bool:
        """Whether a read belongs to the run. The kernel sends several reads at once, and they may
        come in any order."""
        if not self._window_bytes:
            return False
        return self._position - self._window_bytes_min <= start <= self._ahead_end

    def _advance(self, file_bytes: int) -> tuple[int, int]:
        """Fetch on once half of the window is used up, so that ranges are large and reading never
        waits for a whole one."""
        ahead_bytes = self._ahead_end - self._position
        if self._window_bytes and 2 * ahead_bytes > self._window_bytes:
            return NOTHING
        start = self._ahead_end
        self._window_bytes = min(
            max(2 * self._window_bytes, self._window_bytes_min), self._window_bytes_max
        )
        end = min(self._position + self._window_bytes, file_bytes)
        if end <= start:
            return NOTHING
        self._ahead_end = end
        assert self._position <= start < end <= file_bytes
        return start, end
