"""TARGET: what people name a cluster by → the addresses of its metadata servers."""

from __future__ import annotations

import errno
import os
import re
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from dfs.cluster.directory import ClusterDirectory, running_clusters
from dfs.errors import UserError
from dfs.mountpoint import FILESYSTEM_TYPE
from dfs.rpc.transport import parse_address

if TYPE_CHECKING:
    from collections.abc import Mapping

MOUNT_XATTR = "user.dfs.mount"
_SUBDIRECTORY = re.compile(r"(?P<target>.+?):(?P<path>/.*)", re.DOTALL)


class MountAnswer(msgspec.Struct):
    """The part of the virtual attribute `user.dfs.mount` that commands need."""

    pid: int
    addresses: tuple[str, ...]
    mountpoint: str
    source: str = ""
    log_path: str = ""
    slow_because: str = ""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A cluster, found."""

    name: str
    """For people."""
    addresses: tuple[str, ...]
    local: ClusterDirectory | None = None
    """Set when it was named by its directory or found running here."""
    slow_because: str = ""
    """Set when it was named by a mount that answers slower than it could: why."""


def resolve_target(text: str | None) -> Target:
    """The cluster that `text` names; without one, the only cluster that runs on this machine.

    Raises UserError: exit status 2 when nothing is named so, 1 when it is there but not usable.
    """
    if text is None:
        return _only_running()
    if _looks_like_addresses(text):
        addresses = tuple(text.split(","))
        for address in addresses:
            parse_address(address)
        return Target(name=text, addresses=addresses)
    answer = None if ClusterDirectory(text).exists else ask_mount(text)
    if answer is not None:
        return Target(name=text, addresses=answer.addresses, slow_because=answer.slow_because)
    directory = ClusterDirectory(text)
    if directory.exists:
        return local_target(directory)
    raise UserError(
        f"{text}: neither a path on a dfs mount, nor a local cluster's directory, "
        "nor HOST:PORT or unix:PATH",
        exit_status=2,
    )


def local_target(directory: ClusterDirectory) -> Target:
    return Target(name=str(directory.top), addresses=(directory.meta_address,), local=directory)


def split_subdirectory(text: str) -> tuple[str, str]:
    """TARGET[:/subdir] → (TARGET, "/subdir"); "/" if none is given."""
    prefix = "unix:" if text.startswith("unix:") else ""
    rest = text.removeprefix(prefix)
    found = _SUBDIRECTORY.fullmatch(rest)
    if found is None or os.path.lexists(rest):
        return text, "/"
    return prefix + found["target"], found["path"]


def ask_mount(path: str) -> MountAnswer | None:
    """What the dfs mount that holds `path` says of itself; None if no dfs mount holds it.

    Raises UserError for a dead mount, or a path that cannot be reached.
    """
    try:
        return msgspec.json.decode(os.getxattr(path, MOUNT_XATTR), type=MountAnswer)
    except OSError as error:
        if error.errno in (errno.ENOTCONN, errno.ECONNABORTED):
            raise UserError(
                f"{path}: the mount is dead (its process ended); take it off: dfs umount {path}"
            ) from None
        if error.errno in (errno.EACCES, errno.EIO, errno.ELOOP, errno.ENAMETOOLONG):
            raise UserError(f"{path}: {error.strerror}") from None
        return None


def mount_attribute(
    path: str, name: str, *, refusals: Mapping[int, str] = MappingProxyType({})
) -> bytes:
    """The value of a virtual attribute of the mount that holds `path`.

    `refusals`: errno → what to say then. Raises UserError.
    """
    try:
        return os.getxattr(path, name)
    except OSError as error:
        if reason := refusals.get(error.errno or 0):
            raise UserError(f"{path}: {reason}") from None
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise UserError(f"{path}: {error.strerror}", exit_status=2) from None
        # It says so if the mount is dead.
        if ask_mount(path) is None:
            raise UserError(
                f"{path}: not on a dfs mount; findmnt --types {FILESYSTEM_TYPE} lists them",
                exit_status=2,
            ) from None
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            raise UserError(
                f"{path}: its mount runs an older dfs, which cannot tell this; "
                f"unmount it and mount it again"
            ) from None
        raise UserError(f"{path}: {error.strerror}") from None


def _looks_like_addresses(text: str) -> bool:
    """An existing path is a path, whatever it looks like."""
    if text.startswith("unix:"):
        return True
    return not os.path.lexists(text) and "/" not in text and ":" in text


def _only_running() -> Target:
    found = running_clusters()
    if len(found) == 1:
        return local_target(found[0])
    if not found:
        raise UserError(
            "no cluster runs on this machine; start one with dfs up, or name a TARGET",
            exit_status=2,
        )
    names = ", ".join(str(directory.top) for directory in found)
    raise UserError(f"several clusters run here; name one as TARGET: {names}", exit_status=2)
