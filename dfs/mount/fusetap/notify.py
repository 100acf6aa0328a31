"""What a mount tells its kernel of its own accord, beyond what pyfuse3 can say."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import trio

from dfs.mount.fusetap.wire import Notification

if TYPE_CHECKING:
    from dfs.mount.fusetap.extension import Tap


def advance_dentry_epoch(tap: Tap) -> bool:
    """Let every name that the kernel has cached of this mount be looked up again when it is used.

    False if the kernel does not know this call (before Linux 6.16): then nothing has happened. To
    be called from a worker thread only: a notification may wait in the kernel for what the event
    loop would have to answer. Raises OSError when there is no mount (any more).
    """
    assert not trio.lowlevel.in_trio_run(), "would stop the event loop that it may wait for"
    try:
        tap.notify(Notification.INC_EPOCH, b"")
    except OSError as error:
        if error.errno == errno.EINVAL:
            return False
        raise
    return True
