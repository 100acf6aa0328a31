"""What each process is told when it starts: one frozen Struct per process, checked once.

The command line makes these and nothing else reads its options.
"""

from __future__ import annotations

import msgspec


class MountConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One `dfs mount`."""

    addresses: tuple[str, ...]
    """Metadata servers, `HOST:PORT` or `unix:PATH`; at least one."""
    mountpoint: str
    """Absolute, free of symlinks."""
    subdirectory: str = "/"
    """The directory of the volume that becomes the root of the mount."""
    source: str = ""
    """What mount(8) and df(1) show: the TARGET as it was given."""
    options: str = ""
    """As after -o: words and NAME=VALUE pairs, separated by commas."""
    log_path: str = ""
    """For people: where this process logs to; empty for stderr."""
    local_cluster: str = ""
    """Directory of the local cluster that this mount belongs to; empty if none."""

    def __post_init__(self) -> None:
        assert self.addresses
        assert self.mountpoint.startswith("/")
        assert self.subdirectory.startswith("/")
