"""Extended attributes: names, namespaces, limits (xattr(7), setxattr(2)).

| prefix | on | set and removed by | read by |
|---|---|---|---|
| `user.` | files, directories | who may write (sticky directory: its owner) | who may read |
| `trusted.` | anything | root | root; hidden from others |
| `security.` | anything | root | anyone |
| `system.`, others | EOPNOTSUPP | | |

`user.dfs.` belongs to dfs itself. Sources: xattr_permission() and the handlers' rules in
fs/xattr.c, cap_inode_setxattr().
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import msgspec

from dfs.core.namespace import access
from dfs.core.namespace.inodes import damaged, get_inode, put_inode
from dfs.core.namespace.keys import name_of, xattr_key, xattr_range
from dfs.core.namespace.ops import XATTR_CREATE, XATTR_REPLACE, OpResult
from dfs.core.namespace.records import Xattr
from dfs.core.namespace.view import ScanRange
from dfs.errors import FsError
from dfs.limits import XATTR_LIST_BYTES_MAX, XATTR_NAME_BYTES_MAX, XATTR_VALUE_BYTES_MAX

if TYPE_CHECKING:
    from dfs.core.namespace.ops import RemoveXattr, SetXattr
    from dfs.core.namespace.records import Inode
    from dfs.core.namespace.view import Overlay, View
    from dfs.types import Credentials, InodeId

USER = b"user."
TRUSTED = b"trusted."
SECURITY = b"security."
SYSTEM = b"system."
RESERVED = b"user.dfs."
CAPABILITY = b"security.capability"
"""What a file's program may do; any change of the file takes it away (capabilities(7))."""

COUNT_MAX = XATTR_LIST_BYTES_MAX // (XATTR_NAME_BYTES_MAX + 1)
"""With so few, listxattr(2) always fits its limit, however long the names: no list has to be added
up."""


def get_xattr(
    view: View, ino: InodeId, name: bytes, credentials: Credentials | None = None
) -> bytes:
    """The value. Without credentials nothing is hidden (the kernel has checked already).

    Raises FsError: ESTALE, ERANGE, EACCES, EOPNOTSUPP, EINVAL (nothing after the prefix), ENODATA;
    Missing.
    """
    inode = get_inode(view, ino)
    _check_name_length(name)
    if credentials is not None:
        _require_read(inode, name, credentials)
    _check_namespace(name)
    xattr = view.get(xattr_key(ino, name), Xattr) if inode.xattr_count else None
    if xattr is None:
        raise FsError(errno.ENODATA)
    return xattr.value


def list_xattrs(view: View, ino: InodeId, credentials: Credentials | None = None) -> list[bytes]:
    """The names, sorted. `trusted.` ones are left out for credentials that are not root's.

    Raises FsError(ESTALE), Missing.
    """
    inode = get_inode(view, ino)
    if inode.xattr_count == 0:
        return []
    rows = view.scan(ScanRange(*xattr_range(ino), COUNT_MAX), Xattr)
    names = [name_of(key) for key, _ in rows]
    if credentials is None or credentials.is_privileged:
        return names
    return [name for name in names if not name.startswith(TRUSTED)]


def set_xattr(overlay: Overlay, op: SetXattr) -> OpResult:
    """The inode after SetXattr; sets its ctime.

    Raises FsError: ESTALE, EINVAL (flags, empty name after the prefix), ERANGE (name), E2BIG
    (value), EPERM, EACCES, EOPNOTSUPP, EEXIST (XATTR_CREATE), ENODATA (XATTR_REPLACE), ENOSPC (too
    many).
    """
    inode = get_inode(overlay, op.ino)
    if op.flags & ~(XATTR_CREATE | XATTR_REPLACE):
        raise FsError(errno.EINVAL)
    _check_name_length(op.name)
    if len(op.value) > XATTR_VALUE_BYTES_MAX:
        raise FsError(errno.E2BIG)
    _require_write(inode, op.name, op.credentials)
    _check_namespace(op.name)
    key = xattr_key(op.ino, op.name)
    is_new = overlay.get(key, Xattr) is None
    if is_new and op.flags & XATTR_REPLACE:
        raise FsError(errno.ENODATA)
    if not is_new and op.flags & XATTR_CREATE:
        raise FsError(errno.EEXIST)
    if is_new and inode.xattr_count >= COUNT_MAX:
        raise FsError(errno.ENOSPC, f"an inode has at most {COUNT_MAX} extended attributes")
    overlay.put(key, Xattr(op.value))
    return _changed(overlay, inode, op.now_ns, int(is_new))


def remove_xattr(overlay: Overlay, op: RemoveXattr) -> OpResult:
    """The inode after RemoveXattr; sets its ctime.

    Raises FsError: ESTALE, ERANGE, EPERM, EACCES, EOPNOTSUPP, EINVAL, ENODATA.
    """
    inode = get_inode(overlay, op.ino)
    _check_name_length(op.name)
    _require_write(inode, op.name, op.credentials)
    _check_namespace(op.name)
    key = xattr_key(op.ino, op.name)
    if overlay.get(key, Xattr) is None:
        raise FsError(errno.ENODATA)
    overlay.delete(key)
    return _changed(overlay, inode, op.now_ns, -1)


def drop_capability(overlay: Overlay, inode: Inode) -> Inode:
    """The inode without security.capability. Root's writes drop it too. Source:
    cap_inode_killpriv().

    The caller writes the inode.
    """
    if inode.xattr_count == 0:
        return inode
    key = xattr_key(inode.ino, CAPABILITY)
    if overlay.get(key, Xattr) is None:
        return inode
    overlay.delete(key)
    return msgspec.structs.replace(inode, xattr_count=inode.xattr_count - 1)


def _changed(overlay: Overlay, inode: Inode, now_ns: int, added_count: int) -> OpResult:
    count = inode.xattr_count + added_count
    if not 0 <= count <= COUNT_MAX:
        raise damaged(f"inode {inode.ino} counts {inode.xattr_count} extended attributes")
    inode = msgspec.structs.replace(inode, xattr_count=count, ctime_ns=now_ns)
    put_inode(overlay, inode)
    return OpResult(inode)


def _check_name_length(name: bytes) -> None:
    if not 0 < len(name) <= XATTR_NAME_BYTES_MAX or b"\0" in name:
        raise FsError(errno.ERANGE)


def _check_namespace(name: bytes) -> None:
    """Refuses what dfs does not store. Source: xattr_resolve_name()."""
    for prefix in (USER, TRUSTED, SECURITY):
        if name.startswith(prefix):
            if name == prefix:
                raise FsError(errno.EINVAL, "nothing follows the prefix")
            return
    raise FsError(errno.EOPNOTSUPP)


def _require_write(inode: Inode, name: bytes, credentials: Credentials) -> None:
    if name.startswith((SECURITY, TRUSTED)):
        if not credentials.is_privileged:
            raise FsError(errno.EPERM)
        return
    if name.startswith(SYSTEM):
        return
    if name.startswith(USER):
        _require_user_write(inode, credentials)
    access.require(inode, credentials, access.WRITE)
    if name.startswith(RESERVED):
        raise FsError(errno.EPERM, "names under user.dfs. belong to dfs")


def _require_user_write(inode: Inode, credentials: Credentials) -> None:
    if not (inode.is_file or inode.is_directory):
        raise FsError(errno.EPERM, "only files and directories have user. attributes")
    is_sticky = inode.is_directory and bool(inode.mode & 0o1000)
    if is_sticky and not access.is_owner_or_privileged(inode, credentials):
        raise FsError(errno.EPERM, "the directory is sticky")


def _require_read(inode: Inode, name: bytes, credentials: Credentials) -> None:
    if name.startswith((SECURITY, SYSTEM)):
        return
    if name.startswith(TRUSTED):
        if not credentials.is_privileged:
            raise FsError(errno.ENODATA)
        return
    if name.startswith(USER) and not (inode.is_file or inode.is_directory):
        raise FsError(errno.ENODATA)
    access.require(inode, credentials, access.READ)
