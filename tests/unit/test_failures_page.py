"""Goal: docs/failures.md names only proofs that exist. Method: look every one of them up."""

from __future__ import annotations

import re
from pathlib import Path

from tests.simulation.scenario_files import scenario_names

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs" / "failures.md").read_text("utf-8")
TABLE_COLUMNS = 5


def _tests() -> dict[str, set[str]]:
    """Test function → the names of the files that define it."""
    found: dict[str, set[str]] = {}
    for path in (PROJECT / "tests").rglob("*.py"):
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text("utf-8"), re.M):
            found.setdefault(name, set()).add(path.name)
    return found


def test_every_file_that_is_named_exists() -> None:
    names = {path.name for path in (PROJECT / "tests").rglob("*.py")}
    mentioned = re.findall(r"`([\w/]+\.py)[`:]", PAGE)
    assert mentioned
    for path in mentioned:
        assert (PROJECT / path).is_file() if "/" in path else path in names, path


def test_every_test_that_is_named_is_in_the_file_before_it() -> None:
    tests = _tests()
    file = ""
    count = 0
    for line in PAGE.splitlines():
        for path, name in re.findall(r"`(?:([\w/]+\.py)(?:::)?)?(test_\w+)?`", line):
            file = path.rsplit("/", 1)[-1] or file
            if name:
                assert file in tests.get(name, ()), f"{file}::{name}"
                count += 1
    assert count > 40


def test_every_scenario_that_is_named_exists() -> None:
    names = re.findall(r"scenarios? `([\w-]+)`(?:, `([\w-]+)`)?", PAGE)
    assert names
    for pair in names:
        for name in filter(None, pair):
            assert name in scenario_names() or name.startswith("test_"), name


def test_every_fault_has_a_proof_or_says_that_it_has_none() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("|") and "---" not in line]
    assert len(rows) > 25
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert len(cells) == TABLE_COLUMNS, row
        assert all(cells), row
        is_title = cells[0] == "fault"
        assert is_title or "`" in cells[-1] or "not proven yet" in cells[-1], row
