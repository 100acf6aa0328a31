"""Mount points as the kernel knows them: what is mounted where, by whom it is used, and taking it
off.

Everything here may block on a mount whose daemon hangs: call it from a command or a worker thread,
never from the event loop that serves the mount.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import subprocess
from pathlib import Path

import msgspec

from dfs.errors import UserError

FILESYSTEM_TYPE = "fuse.dfs"
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8
USERS_SHOWN = 5
_OCTAL = re.compile(r"\\([0-7]{3})")


class MountEntry(msgspec.Struct, frozen=True):
    """One line of /proc/self/mountinfo (proc_pid_mountinfo(5))."""

    path: str
    filesystem_type: str
    source: str
    device: str
    """`MAJOR:MINOR`."""


def mount_table() -> list[MountEntry]:
    """Every mount of this namespace, in the order of mounting. Touches no mount."""
    text = Path("/proc/self/mountinfo").read_bytes().decode("utf-8", "surrogateescape")
    return [parse_mountinfo(line) for line in text.splitlines()]


def parse_mountinfo(line: str) -> MountEntry:
    """The entry that a mountinfo line describes; `\\040` and the like are undone."""
    before, _, after = line.partition(" - ")
    fields, tail = before.split(" "), after.split(" ")
    assert len(fields) >= 6
    assert len(tail) >= 2
    return MountEntry(
        path=_unescape(fields[4]),
        filesystem_type=tail[0],
        source=_unescape(tail[1]),
        device=fields[2],
    )


def _unescape(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)


def find_mount(path: str) -> MountEntry | None:
    """What is mounted exactly on `path` (absolute, symlinks resolved); the topmost if several."""
    return next((entry for entry in reversed(mount_table()) if entry.path == path), None)


def mount_of(path: str) -> MountEntry:
    """The mount that holds `path` (absolute, symlinks resolved)."""
    holders = [entry for entry in mount_table() if _is_within(path, entry.path)]
    assert holders, "/ is always mounted"
    return max(holders, key=lambda entry: len(entry.path))


def _is_within(path: str, top: str) -> bool:
    return top == "/" or path == top or path.startswith(top + "/")


def printable(path: str) -> str:
    """The path as text that JSON can carry: bytes that are not UTF-8 become `\\udc…`."""
    return path.encode("utf-8", "backslashreplace").decode()


def real_path(path: str) -> str:
    """`path` made absolute and free of symlinks, without looking at its last component.

    So a mount point whose daemon is dead (every look at it fails) can still be named.
    """
    absolute = os.path.abspath(path)
    parent, name = os.path.split(absolute)
    if not name:
        return absolute
    own = os.path.join(os.path.realpath(parent), name)
    return own if find_mount(own) else os.path.realpath(path)


def is_stale(path: str) -> bool:
    """A mount whose daemon is gone: every access fails with ENOTCONN."""
    try:
        # Which no kernel answers from memory, as it may stat(2).
        os.statvfs(path)
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


def check_mountpoint(path: str, *, is_nonempty_fine: bool) -> None:
    """Raises UserError unless `path` is an empty directory that nothing is mounted on."""
    entry = find_mount(path)
    if entry is not None and entry.filesystem_type.startswith("fuse") and is_stale(path):
        raise UserError(f"{path}: a dead mount is still there; take it off: umount --lazy {path}")
    if entry is not None and entry.filesystem_type == FILESYSTEM_TYPE:
        raise UserError(f"{path}: dfs is already mounted there (from {entry.source})")
    try:
        is_empty = not os.listdir(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such directory; make it first: mkdir -p {path}") from None
    except NotADirectoryError:
        raise UserError(f"{path}: not a directory") from None
    if not is_empty and not is_nonempty_fine:
        raise UserError(
            f"{path}: not empty; its files would be hidden while mounted (-o nonempty allows it)"
        )


def take_off(path: str, *, is_lazy: bool = False) -> None:
    """umount(2). Raises OSError (EBUSY: in use) as root, UserError through fusermount3."""
    if os.geteuid() == 0:
        _umount(path, (MNT_DETACH if is_lazy else 0) | UMOUNT_NOFOLLOW)
        return
    program = shutil.which("fusermount3") or shutil.which("fusermount")
    if program is None:
        raise UserError("fusermount3 is missing: install the package fuse3, or unmount as root")
    command = [program, "-u", *(["-z"] if is_lazy else []), "--", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        text = done.stderr.strip().splitlines()
        is_busy = "busy" in done.stderr.lower()
        raise OSError(errno.EBUSY if is_busy else errno.EINVAL, text[-1] if text else "failed")


def _umount(path: str, flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(path), flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)


def users_of(path: str) -> list[str]:
    """Processes with a file, a mapping or their directory under `path`, as `NAME (PID)`.

    Only what this user may see of /proc; never looks into the mount itself.
    """
    return [f"{_name_of(pid)} ({pid})" for pid in _all_pids() if _uses(pid, path)]


def in_use_message(path: str, command: str) -> str:
    """The one line for a mount that cannot be taken off, naming who uses it and what to do."""
    users = users_of(path)
    shown = ", ".join(users[:USERS_SHOWN]) + (", …" if len(users) > USERS_SHOWN else "")
    whom = f" by {shown}" if users else ""
    return f"{path}: in use{whom}; end that first, or detach it at once: {command}"


def _all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def _uses(pid: int, top: str) -> bool:
    links = [f"/proc/{pid}/cwd", f"/proc/{pid}/root"]
    for folder in (f"/proc/{pid}/fd", f"/proc/{pid}/map_files"):
        try:
            links += [f"{folder}/{name}" for name in os.listdir(folder)]
        except OSError:
            continue
    return any(_leads_into(link, top) for link in links)


def _leads_into(link: str, top: str) -> bool:
    try:
        target = os.readlink(link)
    except OSError:
        return False
    return _is_within(target.removesuffix(" (deleted)"), top)


def _name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "?"
