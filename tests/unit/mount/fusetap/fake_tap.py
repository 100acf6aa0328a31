"""A tap without a kernel: what it was told, and answers from a list."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dfs.mount.fusetap._tap import Status


class FakeTap:
    SLEEP, READY, YIELD = 0, 1, 2

    def __init__(self) -> None:
        self.verdicts: list[int] = []
        """Of `poll`, next first; SLEEP when there are no more."""
        self.notified: list[tuple[int, bytes]] = []
        self.armed: list[tuple[int, int, int]] = []
        self.head = b""
        self.failure: OSError | None = None
        self.state: Status = {
            "is_attached": True,
            "error": 0,
            "library": "/lib/libfuse3.so",
            "flags_offered": 0,
            "flags_agreed": 0,
            "in_flight": 0,
            "is_polling": False,
            "request_count": 0,
            "found_count": 0,
            "vain_count": 0,
            "sleep_count": 0,
        }

    def arm(self, flags_added: int, poll_ns: int, turn_ns: int, /) -> None:
        self.armed.append((flags_added, poll_ns, turn_ns))

    def poll(self) -> int:
        return self.verdicts.pop(0) if self.verdicts else self.SLEEP

    def last_request(self) -> bytes:
        return self.head

    def notify(self, code: int, payload: bytes, /) -> None:
        if self.failure is not None:
            raise self.failure
        self.notified.append((code, payload))

    def status(self) -> Status:
        return self.state
