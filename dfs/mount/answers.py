"""How a handler's exceptions become answers to the kernel, and how long those take.

pyfuse3 ends the whole mount when a handler raises anything but FUSEError. So every handler is
wrapped once, here: expected errors carry their errno, unexpected ones are logged and become EIO.
An AssertionError is let through on purpose: it is our bug, and the process stops. Every request is
counted and timed on the way (`dfs.mount.statistics`).
"""

from __future__ import annotations

import errno
import functools
import logging
import time
from time import perf_counter
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from pyfuse3 import FUSEError

from dfs.errors import DfsError, FsError
from dfs.mount.statistics import REQUESTS

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

P = ParamSpec("P")
R = TypeVar("R")
log = logging.getLogger(__name__)

REPEAT_AFTER_S = 5.0
"""The same complaint is logged at most this often: a lost server fails every request alike."""
COMPLAINTS_MAX = 256
_logged_at: dict[str, float] = {}


def answered(handler: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    """The handler, raising nothing but FUSEError (and AssertionError)."""
    times = REQUESTS.times_of(handler.__name__)

    @functools.wraps(handler)
    async def answer(*args: P.args, **kwargs: P.kwargs) -> R:
        times.started_count += 1
        started_s = perf_counter()
        try:
            return await handler(*args, **kwargs)
        except FUSEError:
            raise
        except Exception as error:
            raise FUSEError(errno_of(error, handler.__name__)) from None
        finally:
            times.note(perf_counter() - started_s)

    return answer


def errno_of(error: Exception, operation: str) -> int:
    """What the application gets to see of `error`. Raises it again if it is an AssertionError."""
    if isinstance(error, FsError):
        return error.errno
    if _holds_assertion(error):
        raise error
    if isinstance(error, DfsError):
        _complain(f"{operation}: {type(error).__name__}: {error}")
        return error.errno
    log.error("%s: unexpected error, answered with EIO", operation, exc_info=error)
    return errno.EIO


def _holds_assertion(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(_holds_assertion(inner) for inner in error.exceptions)
    return isinstance(error, AssertionError)


def _complain(message: str) -> None:
    now = time.monotonic()
    if now - _logged_at.get(message, -REPEAT_AFTER_S) < REPEAT_AFTER_S:
        return
    if len(_logged_at) >= COMPLAINTS_MAX:
        _logged_at.clear()
    _logged_at[message] = now
    log.warning("%s", message)
