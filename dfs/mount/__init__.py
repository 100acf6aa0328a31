"""The FUSE mount. The tap comes first: it must be loaded before anything here imports pyfuse3."""

from dfs.mount.fusetap import extension as _extension  # noqa: F401
