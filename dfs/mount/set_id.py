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

from dfs.core.namespace.access import mode_after_chown
from dfs.mount.attributes import AttributeChanges, caller
from dfs.mount.fusetap.requests import kills_set_id, requester
from dfs.mount.fusetap.wire import InitFlag
from dfs.types import Credentials, InodeId

if TYPE_CHECKING:
    from dfs.core.namespace.records import Inode
    from dfs.mount.fusetap.extension import Tap
    from dfs.mount.fusetap.session import FuseSession

UNPRIVILEGED_UID: Final = 65534
"""Stands for a root without CAP_FSETID: to dfs, uid 0 holds every capability."""


class SetIdRule:
    """The rule of one session. To be asked by a handler before it first awaits."""

    def __init__(self, session: FuseSession) -> None:
        self._session = session
        self._capability_gone: tuple[InodeId, int] | None = None

    @cached_property
    def _tap(self) -> Tap | None:
        """None if the kernel does not tell. It agreed on that before it asked anything."""
        is_told = InitFlag.HANDLE_KILLPRIV_V2 in self._session.agreed
        return self._session.tap if is_told else None

    def capability_goes(self, ino: InodeId, pid: int) -> None:
        """The kernel takes security.capability away, perhaps before a write of that process."""
        self._capability_gone = (ino, pid)

    def bare_change(self, inode: Inode, who: Credentials, pid: int) -> AttributeChanges:
        """What a SETATTR asks for that names no change.

        chown(2) of neither owner nor group takes set-id bits from files (chown_common()), which is
        ours to do. But the same request comes before a write that takes bits or the capability.
        Where both are possible, the bits stay: a write takes them itself. So a chown of nothing
        by somebody else than root and the owner changes nothing (instead of failing with EPERM),
        and one by root leaves the bits of a file that also had a capability, as POSIX allows.
        """
        comes_before_write = self._capability_gone == (inode.ino, pid)
        self._capability_gone = None
        if inode.is_directory or inode.is_symlink:
            return AttributeChanges()
        if who.uid != inode.uid and not who.is_privileged:
            return AttributeChanges()
        if who.is_privileged and comes_before_write:
            return AttributeChanges()
        mode = mode_after_chown(inode, who)
        return AttributeChanges() if mode == inode.mode else AttributeChanges(mode=mode & 0o7777)

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
