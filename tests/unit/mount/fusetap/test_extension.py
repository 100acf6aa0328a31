"""Goal: the extension is there, comes before pyfuse3, and its absence is words, not a failure.

Method: interpreters of their own, because an interpreter loads a library once.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from dfs.background import dfs_environment

SHOW = "; from dfs.mount.fusetap import extension as e; print(e.TAP is not None, e.WHY_NOT)"


def run(program: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program + SHOW],
        env=dfs_environment(environment),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_it_is_built_and_in_front_of_libfuse() -> None:
    assert run("import dfs.mount, pyfuse3") == "True"


def test_too_late_is_a_reason() -> None:
    assert run("import pyfuse3") == "False pyfuse3 was loaded before it"


def test_it_can_be_switched_off() -> None:
    assert run("pass", DFS_FUSE_TAP="0") == "False switched off (DFS_FUSE_TAP=0)"


@pytest.mark.parametrize("kind", ["missing", "broken"])
def test_one_that_cannot_be_loaded_is_a_reason(kind: str) -> None:
    value = "None" if kind == "missing" else "__import__('types').ModuleType('_tap')"
    program = f"import sys; sys.modules['dfs.mount.fusetap._tap'] = {value}"
    if kind == "broken":
        program += "; sys.modules['dfs.mount.fusetap._tap'].is_in_front = lambda: False"
        assert run(program) == "False another library has libfuse's symbols already"
    else:
        assert run(program).startswith("False the extension cannot be loaded:")
