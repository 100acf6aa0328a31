"""The version of the dfs that runs."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version

UNINSTALLED = "0.1.0"
"""Run from a checkout that is not installed."""


def version() -> str:
    """As in pyproject.toml."""
    try:
        return installed_version("dfs")
    except PackageNotFoundError:
        return UNINSTALLED
