"""A run is enclosed in namespaces of its own, so that whatever ends it leaves nothing behind.

Its processes, mounts, network links and (by autoclear) loop devices belong to a process, mount and
network namespace that no one else sees. When the first process in there ends, the kernel kills the
others and takes everything down, even after SIGKILL. What is left, a directory, is removed from the
outside.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

CLONE_NEWNS = 0x00020000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def run_enclosed(main: Callable[[], int]) -> int:
    """Run `main` in namespaces of its own; its exit status. Must be called before any thread runs.

    SIGINT and SIGTERM are passed on, as SIGTERM. Raises OSError where namespaces are not allowed.
    """
    _unshare(CLONE_NEWPID)  # for children only: this process stays where it is
    child = os.fork()
    if child == 0:
        _live_inside(main)

    def pass_on(_number: int, _frame: FrameType | None) -> None:
        os.kill(child, signal.SIGTERM)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_on)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _live_inside(main: Callable[[], int]) -> None:
    status = 1
    try:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        _unshare(CLONE_NEWNS | CLONE_NEWNET)
        os.setsid()  # a terminal would signal both
        for command in (
            ["mount", "--make-rprivate", "/"],
            ["mount", "-t", "proc", "proc", "/proc"],
            ["mount", "-t", "tmpfs", "tmpfs", "/run"],
        ):
            subprocess.run(command, check=True)
        status = main()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _unshare(flags: int) -> None:
    if _libc.unshare(flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"unshare: {os.strerror(number)}")
