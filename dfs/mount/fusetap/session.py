"""One session with the kernel: mount, serve, close; through the tap if there is one."""

from __future__ import annotations

import errno
import os
from functools import partial
from typing import TYPE_CHECKING, Any

import pyfuse3
import trio

from dfs.mount.fusetap import extension
from dfs.mount.fusetap.notify import advance_dentry_epoch
from dfs.mount.fusetap.turns import Turns, trio_with
from dfs.mount.fusetap.unblocking import unblocked_regularly
from dfs.mount.fusetap.wire import InitFlag

if TYPE_CHECKING:
    from dfs.mount.fusetap.extension import Tap

POLL_NS = 60_000
"""How long a poll looks for the next request: about what a wake-up costs."""
TURN_NS = 2_000_000
"""A busy mount lets its other tasks run at least this often."""
INIT_FLAGS = (
    # Lookups and listings of one directory need not wait for each other: a handler never relies on
    # that, because those of different directories never did.
    InitFlag.PARALLEL_DIROPS
    # Set-id bits and file capabilities go with the change itself (dfs.mount.set_id). The kernel
    # need not look for them before every write, which is a GETXATTR each.
    | InitFlag.HANDLE_KILLPRIV_V2
    # An inode's target never changes, and no inode's number is ever used again.
    | InitFlag.CACHE_SYMLINKS
)
"""What a mount wants of the kernel beyond what libfuse and pyfuse3 ask for.

Those have the largest requests there are (MAX_PAGES: 1 MiB) already. Read-ahead can only be lowered
here; `dfs.mount.main` raises it. Whatever keeps names, attributes or pages needs leases first.
"""


class FuseSession:
    """Made before it is mounted. `why_plain` says why it does without the tap; empty if it has it.

    It has to serve on the event loop's thread, and there is one at a time in a process.
    """

    def __init__(self, tap: Tap | None = extension.TAP, why_plain: str = extension.WHY_NOT) -> None:
        assert (tap is None) == bool(why_plain)
        self._tap = tap
        self.why_plain = why_plain

    @property
    def tap(self) -> Tap | None:
        """None without one; asked anew after `mount`."""
        return None if self.why_plain else self._tap

    def mount(self, operations: pyfuse3.Operations, mountpoint: str, options: set[str]) -> None:
        """Raises RuntimeError when libfuse cannot mount; standard error has its words."""
        if self._tap is not None:
            self._tap.arm(INIT_FLAGS, POLL_NS if _has_cpus_to_spare() else 0, TURN_NS)
        pyfuse3.init(operations, mountpoint, options)
        if self._tap is not None:
            self.why_plain = _why_not_attached(self._tap)

    async def serve(self, tasks_max: int) -> None:
        """Answer requests until the mount is taken off or `pyfuse3.terminate` is called."""
        serve = partial(pyfuse3.main, min_tasks=1, max_tasks=tasks_max)
        tap = self.tap
        if tap is None:
            with unblocked_regularly():
                await serve()
            return
        module: Any = pyfuse3
        module.trio = trio_with(Turns(tap))
        try:
            await serve()
        finally:
            module.trio = trio

    def close(self, *, unmount: bool) -> None:
        pyfuse3.close(unmount=unmount)

    @property
    def agreed(self) -> InitFlag:
        """What kernel and daemon agreed on, once requests are answered."""
        return InitFlag(0) if self.tap is None else InitFlag(self.tap.status()["flags_agreed"])

    def advance_dentry_epoch(self) -> bool:
        """See `notify.advance_dentry_epoch`; False without the tap, too."""
        return self.tap is not None and advance_dentry_epoch(self.tap)


def _has_cpus_to_spare() -> bool:
    """On a single CPU a poll would only keep the program from making its next request."""
    return len(os.sched_getaffinity(0)) > 1


def _why_not_attached(tap: Tap) -> str:
    """Empty if it is."""
    status = tap.status()
    if status["is_attached"]:
        return ""
    if status["error"] == errno.ENOSYS:
        return f"{status['library']} is older than libfuse 3.13"
    if status["error"]:
        return f"libfuse refused it: {os.strerror(status['error'])}"
    return "pyfuse3 makes its session in a libfuse of its own (linked statically?)"
