"""Goal: the version is the one of pyproject.toml, installed or not."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from dfs.version import UNINSTALLED, version


def test_one_version_everywhere() -> None:
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    assert project["version"] == UNINSTALLED
    assert re.fullmatch(r"\d+\.\d+\.\d+", version())
