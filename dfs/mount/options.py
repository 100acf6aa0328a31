"""The words after -o: which are passed on to libfuse, which are dfs's own, which mean nothing here.

Whatever is not known is refused by name: a misspelt option must not be ignored in silence.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from dfs.errors import UserError

PASSED_ON = frozenset(
    [
        *("ro", "rw", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "async", "sync"),
        *("dirsync", "noatime", "nodiratime", "allow_other", "allow_root", "debug"),
    ]
)
"""Understood by libfuse or the kernel (mount(8), fuse(8))."""
PASSED_ON_WITH_VALUE = frozenset(["max_read"])
WITHOUT_EFFECT = frozenset(
    [
        *("defaults", "default_permissions", "auto", "noauto", "user", "nouser", "users", "owner"),
        *("group", "_netdev", "nofail", "comment", "atime", "diratime", "relatime", "norelatime"),
        *("strictatime", "nostrictatime", "lazytime", "nolazytime"),
    ]
)
"""For mount(8) and systemd, or what dfs does anyway (atime changes with each first read)."""
OWN = frozenset(["nonempty"])
PRIVILEGED_DEFAULTS = ("allow_other", "suid", "dev")
"""What root's mounts of other filesystems have too."""
FUSE_CONF = Path("/etc/fuse.conf")


class MountOptions(msgspec.Struct, frozen=True):
    """What -o says, sorted out."""

    passed_on: tuple[str, ...]
    """For libfuse."""
    is_nonempty_fine: bool
    """Mount even over a directory that has files."""

    @property
    def is_read_only(self) -> bool:
        return "ro" in self.passed_on

    @property
    def is_synchronous(self) -> bool:
        return "sync" in self.passed_on or "dirsync" in self.passed_on


def parse_options(text: str) -> MountOptions:
    """Raises UserError (usage) that names the first word it does not know."""
    words = [word for word in text.split(",") if word]
    for word in words:
        _check_word(word)
    passed_on = dict.fromkeys(word for word in words if _is_passed_on(word))
    return MountOptions(passed_on=tuple(passed_on), is_nonempty_fine="nonempty" in words)


def _check_word(word: str) -> None:
    name, _, value = word.partition("=")
    if name in PASSED_ON_WITH_VALUE and not value.isdecimal():
        raise UserError(f"mount option {name} needs a number: {name}=N", exit_status=2)
    if not is_known(word):
        raise UserError(f"unknown mount option: {word}", exit_status=2)


def is_known(word: str) -> bool:
    return _is_passed_on(word) or word in OWN or _is_for_others(word.partition("=")[0])


def _is_passed_on(word: str) -> bool:
    return word in PASSED_ON or word.partition("=")[0] in PASSED_ON_WITH_VALUE


def _is_for_others(name: str) -> bool:
    return name in WITHOUT_EFFECT or name.startswith(("x-", "X-"))


def fuse_options(options: MountOptions, source: str) -> set[str]:
    """The set that pyfuse3 wants. Permissions are always the kernel's to check."""
    chosen = set(options.passed_on)
    if os.geteuid() == 0:
        refused = {"suid": "nosuid", "dev": "nodev", "allow_other": "allow_root"}
        chosen |= {name for name in PRIVILEGED_DEFAULTS if refused[name] not in chosen}
    elif {"allow_other", "allow_root"} & chosen and not _user_allow_other():
        raise UserError(
            "allow_other needs root, or the line user_allow_other in /etc/fuse.conf (set by root)"
        )
    return chosen | {"default_permissions", f"fsname={_escaped(source)}", "subtype=dfs"}


def _escaped(value: str) -> str:
    """libfuse splits option strings at commas unless they are escaped."""
    return value.replace("\\", "\\\\").replace(",", "\\,")


def _user_allow_other() -> bool:
    try:
        lines = FUSE_CONF.read_text().splitlines()
    except OSError:
        return False
    return any(line.strip() == "user_allow_other" for line in lines)
