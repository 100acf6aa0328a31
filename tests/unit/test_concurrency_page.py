"""Goal: docs/concurrency.md names code that exists. Method: look up every `Class.name`."""

from __future__ import annotations

import ast
import re
from pathlib import Path

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs" / "concurrency.md").read_text("utf-8")
FROM_ELSEWHERE = {"Environment.run_blocking"}


def _members() -> set[str]:
    """`Class.name` for every method, class attribute and `self.name = …` of dfs."""
    found = set(FROM_ELSEWHERE)
    for path in (PROJECT / "dfs").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                found.update(f"{node.name}.{name}" for name in _names_in(node))
    return found


def _names_in(owner: ast.ClassDef) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(owner):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
    return names


def test_every_name_exists() -> None:
    members = _members()
    named = set(re.findall(r"`(_?[A-Z]\w*\.\w+)`", PAGE))
    assert len(named) > 60
    assert sorted(named - members) == []


def test_every_file_exists() -> None:
    for path in re.findall(r"`((?:dfs|tests)/[\w/]+(?:\.py)?)`", PAGE):
        assert (PROJECT / path).exists(), path


def test_every_part_that_starts_tasks_is_described() -> None:
    for package in ("rpc", "meta", "chunk", "client", "mount", "cluster", "fsck"):
        sources = (PROJECT / "dfs" / package).rglob("*.py")
        assert any("start_soon" in source.read_text("utf-8") for source in sources)
        assert f"(`dfs/{package}`)" in PAGE, package
