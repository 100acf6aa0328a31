"""tools/up and tools/test answer what they cannot do with one clear line and an exit status."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[3] / "tools"


def run(script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [TOOLS / script, *arguments],
        env={**os.environ, **variables},
        text=True,
        capture_output=True,
        check=False,
    )


@pytest.mark.parametrize("arguments", [["--wrong"], ["one", "two"]])
def test_up_refuses_wrong_usage(arguments: list[str]) -> None:
    result = run("up", *arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("tools/up: ")
    assert "usage: tools/up [MOUNTPOINT]" in result.stderr
    assert result.stderr.count("\n") == 1


def test_up_explains_itself() -> None:
    result = run("up", "--help")
    assert result.returncode == 0
    assert result.stdout.startswith("usage: tools/up [MOUNTPOINT]")


@pytest.mark.skipif(os.geteuid() != 0, reason="without root it is refused even earlier")
@pytest.mark.parametrize("script", ["up", "test"])
def test_no_suitable_python_is_one_clear_line(script: str) -> None:
    result = run(script, PYTHON="/nonexistent/python3")
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"tools/{script}: needs Python 3.11 or newer")
    assert result.stderr.count("\n") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="changes its user")
def test_without_root_it_says_so() -> None:
    with tempfile.TemporaryDirectory() as name:  # where every user may read, unlike tmp_path
        directory = Path(name)
        directory.chmod(0o755)
        for script in ("up", "setup.sh"):
            (directory / script).write_bytes((TOOLS / script).read_bytes())
            (directory / script).chmod(0o755)
        result = subprocess.run(
            [directory / "up"], user=65534, group=65534, text=True, capture_output=True, check=False
        )
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("tools/up: must run as root")
    assert result.stderr.count("\n") == 1
