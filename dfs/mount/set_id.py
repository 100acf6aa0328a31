"""By whose rights a change of content takes setuid and setgid away, or leaves them.

dfs goes by the uid of whoever opened the file or asks. Linux goes by one capability of whoever
writes at that moment, CAP_FSETID; and with HANDLE_KILLPRIV_V2 the kernel leaves the taking away to
us and says, in WRITE, in SETATTR with a size and in OPEN with O_TRUNC, whether it is missing. Two
cases stay with the uid: pages that the kernel writes back on its own, of which it does not know who
changed them, and a CREATE with O_TRUNC that meets a file made meanwhile.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final

from dfs.mount.attributes import caller
from dfs.mount.fusetap.requests import kills_set_id, requester
from dfs.mount.fusetap.wire import InitFlag
from dfs.types import Credentials

if TYPE_CHECKING:
    from dfs.mount.fusetap.extension import Tap
    from dfs.mount.fusetap.session import FuseSession

UNPRIVILEGED_UID: Final = 65534
"""Stands for a root without CAP_FSETID: to dfs, uid 0 holds every capability."""


class SetIdRule:
    """The rule of one session. To be asked by a handler before it first awaits."""

    def __init__(self, session: FuseSession) -> None:
        self._session = session

    @cached_property
    def _tap(self) -> Tap | None:
        """None if the kernel does not tell. It agreed on that before it asked anything."""
        is_told = InitFlag.HANDLE_KILLPRIV_V2 in self._session.agreed
        return self._session.tap if is_told else None

    def changed_by(self, credentials: Credentials) -> Credentials:
        """Those to change content with: `credentials`, unless the kernel knows better."""
        if self._tap is None:
            return credentials
        return by_head(self._tap.last_request(), credentials)


def by_head(head: bytes, credentials: Credentials) -> Credentials:
    """The rule, for the request that begins with `head`. Nearly always `credentials` themselves."""
    kills = kills_set_id(head)
    if kills is None or kills != credentials.is_privileged:
        return credentials
    if not kills:
        return Credentials(uid=0, gid=credentials.gid)
    who = caller(requester(head))
    return who if who.uid else Credentials(uid=UNPRIVILEGED_UID, gid=who.gid)
