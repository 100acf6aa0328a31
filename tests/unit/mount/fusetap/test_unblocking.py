"""Goal: without the tap, no read of nothing stops the event loop, and nothing stays armed."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
from typing import TYPE_CHECKING

from dfs.mount.fusetap import unblocking

if TYPE_CHECKING:
    import pytest


def test_the_unblocking_signal_interrupts_a_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Method: a C function that reads from an empty pipe, which nobody will ever fill."""
    monkeypatch.setattr(unblocking, "UNBLOCK_S", 0.001)
    before = signal.getsignal(signal.SIGALRM)
    reading, writing = os.pipe()
    with unblocking.unblocked_regularly():
        libc = ctypes.PyDLL(None, use_errno=True)
        assert libc.read(reading, ctypes.create_string_buffer(1), 1) == -1
        assert ctypes.get_errno() == errno.EINTR
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) == before
    os.close(reading)
    os.close(writing)
