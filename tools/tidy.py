"""Our own lint: the rules of dfs that no general tool knows. `python -m tools.tidy [ROOT]`.

Prints `file:line: rule: reason` for everything found and exits 1 if that is anything. Rules about
one file are functions of a `Source`; rules about the whole are functions of a `Project`. State:
none, every check yields findings and knows nothing of the others.
"""

from __future__ import annotations

import ast
import os
import re
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Imports go down only. Parts of one rank do not know each other, except in the base.
RANKS = {
    **dict.fromkeys(["types", "limits", "errors", "config", "environment"], 0),
    **dict.fromkeys(["background", "mountpoint", "version"], 0),
    "core": 1,
    **dict.fromkeys(["engine", "rpc"], 2),
    **dict.fromkeys(["meta", "chunk", "client"], 3),
    **dict.fromkeys(["mount", "fsck", "cluster"], 4),
    "cli": 5,
    "__main__": 6,
}
CORE_MAY_IMPORT = {"dfs.types", "dfs.limits", "dfs.errors", "dfs.core"} | {
    # Third parties that only compute.
    *("msgspec", "blake3", "zstandard"),
    # The part of the standard library that reads no clock, no disk, no network and no dice.
    *("__future__", "abc", "array", "base64", "binascii", "bisect", "collections", "contextlib"),
    *(
        "copy",
        "dataclasses",
        "enum",
        "errno",
        "fractions",
        "functools",
        "hashlib",
        "heapq",
        "inspect",
    ),
    *("itertools", "math", "operator", "re", "stat", "string", "struct", "types", "typing", "zlib"),
}
# Packages that one place wraps, so that everything else can run without them.
ONLY_IN = {
    "pyfuse3": ("dfs/mount/", "only the mount knows the kernel"),
    "lmdb": ("dfs/engine/lmdb_engine.py", "everything else speaks to the engine's seam"),
}
BANNED_CALLS = re.compile(
    r"(open|print|input|eval|exec|time\..+|random\..+|os\..+|uuid\..+|secrets\..+|socket\..+"
    r"|threading\..+|(?:.+\.)?(?:datetime|date)\.(?:now|today|utcnow))"
)
FILE_LINES_MAX = 500
CORE_FILE_LINES_MAX = 300
FUNCTION_LINES_MAX = 70
NESTING_MAX = 4
CORE_ASSERTS_PER_1000_LINES_MIN = 20
EMPTY_NAMES = re.compile(r"(?:.*_)?(?:utils?|managers?|helpers?)")
UNFINISHED = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|X" + r"XX)\b")
MACHINE_PATH = re.compile(r"(?<![\w.$}-])/(?:(?:root|home)/|work(?![\w.-]))")
INVARIANT = re.compile(r"\bI([1-9]\d?)\b")
INVARIANT_DEFINED = re.compile(r"(?:#+ +|[-*] +|\| *)\**`?I([1-9]\d?)\b")
INVARIANTS_PAGE = "docs/invariants.md"

# Files of dfs/ without a test file of their own, and why that is right.
UNMIRRORED: dict[str, str] = {
    "dfs/__main__.py": "one call; tests of the command line run it as a program",
    "dfs/cli/supervise.py": "one call; every test that starts a cluster runs it",
}

SKIPPED_DIRECTORIES = re.compile(r"\.(?!ci$).*|__pycache__|build|dist|.*\.egg-info|node_modules")


@dataclass(frozen=True, order=True)
class Finding:
    """One violation: where it is, which rule it breaks, and why the rule exists."""

    path: str
    line: int
    rule: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.reason}"


@dataclass(frozen=True)
class Source:
    """One text file. `path` is relative to the project, with slashes."""

    path: str
    text: str

    @cached_property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @property
    def is_python(self) -> bool:
        return self.path.endswith(".py")

    @property
    def is_core(self) -> bool:
        return self.is_python and self.path.startswith("dfs/core/")

    @property
    def module(self) -> str:
        """The dotted name; a package's `__init__` is the package."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    def finding(self, line: int, rule: str, reason: str) -> Finding:
        return Finding(self.path, line, rule, reason)


@dataclass(frozen=True)
class Project:
    """Every text file of a checkout, by path."""

    sources: dict[str, Source]

    @property
    def python(self) -> list[Source]:
        return [source for source in self.sources.values() if source.is_python]


def read_project(root: Path) -> Project:
    """All text files below `root` except what git ignores by our .gitignore."""
    sources = {}
    for directory, subdirectories, names in os.walk(root):
        subdirectories[:] = [n for n in subdirectories if not SKIPPED_DIRECTORIES.fullmatch(n)]
        for name in names:
            file = Path(directory, name)
            path = file.relative_to(root).as_posix()
            if name == ".git":  # a worktree's way to its repository
                continue
            with suppress(UnicodeDecodeError):  # not text
                if file.is_file():
                    sources[path] = Source(path, file.read_text("utf-8"))
    return Project(dict(sorted(sources.items())))


# ── what a module imports ────────────────────────────────────────────────────────────────────────


def imports(source: Source) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything imported, wherever in the file; relative ones resolved."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(source, node)
            for alias in node.names:
                # `from dfs import core` names a part; `from dfs.core import x` need not.
                yield node.lineno, f"{base}.{alias.name}" if base == "dfs" else base


def _absolute(source: Source, node: ast.ImportFrom) -> str:
    if node.level == 0:
        return node.module or ""
    package = source.module.split(".")
    if not source.path.endswith("/__init__.py"):
        package.pop()
    package = package[: len(package) - (node.level - 1)]
    return ".".join([*package, *([node.module] if node.module else [])])


def _part(dotted: str) -> str | None:
    """`core` of `dfs.core.blocks`; None outside dfs, or for dfs itself."""
    names = dotted.split(".")
    return names[1] if names[0] == "dfs" and len(names) > 1 else None


def check_layers(source: Source) -> Iterator[Finding]:
    """Imports go down only."""
    part = _part(source.module)
    if not source.is_python or part is None:
        return
    if part not in RANKS:
        yield source.finding(1, "layers", f"tools/tidy.py does not know the rank of dfs.{part}")
        return
    for line, imported in imports(source):
        other = _part(imported)
        if other is None or other == part:
            continue
        base = RANKS[part] == 0 == RANKS.get(other)
        if not base and other in RANKS and RANKS[other] >= RANKS[part]:
            reason = f"dfs.{part} must not know dfs.{other}: imports go down only"
            yield source.finding(line, "layers", reason)


def check_core_is_pure(source: Source) -> Iterator[Finding]:
    """The core computes: no I/O, await, clock, dice or threads, neither imported nor called."""
    if not source.is_core:
        return
    for line, imported in imports(source):
        names = imported.split(".")
        allowed = {names[0], ".".join(names[:2])} & CORE_MAY_IMPORT
        if not allowed:
            reason = f"dfs.core must not import {imported}: it comes in as an argument"
            yield source.finding(line, "core-import", reason)
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and BANNED_CALLS.fullmatch(name := ast.unparse(node.func)):
            yield source.finding(
                node.lineno, "core-call", f"dfs.core must not call {name}: a seed must replay"
            )
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
            reason = "dfs.core never awaits: that is what makes an op atomic"
            yield source.finding(node.lineno, "core-await", reason)


def check_wrapped_packages(source: Source) -> Iterator[Finding]:
    """A package that one place wraps is imported in that place only."""
    if not source.is_python or not source.path.startswith("dfs/"):
        return
    for line, imported in imports(source):
        package = imported.split(".")[0]
        place, why = ONLY_IN.get(package, ("", ""))
        if not source.path.startswith(place):
            reason = f"{package} is imported only in {place}: {why}"
            yield source.finding(line, "wrapped-package", reason)


# ── sizes and names ──────────────────────────────────────────────────────────────────────────────


def check_sizes(source: Source) -> Iterator[Finding]:
    """A file and a function can be read in one go."""
    if not source.is_python:
        return
    count, maximum = len(source.lines), CORE_FILE_LINES_MAX if source.is_core else FILE_LINES_MAX
    if count > maximum:
        yield source.finding(count, "file-size", f"{count} lines, at most {maximum}: split it")
    for function in _functions(source):
        count = (function.end_lineno or function.lineno) - function.lineno + 1
        if count > FUNCTION_LINES_MAX:
            reason = f"{function.name} has {count} lines, at most {FUNCTION_LINES_MAX}"
            yield source.finding(function.lineno, "function-size", reason)
        line, depth = max(_depths(function.body, 0), key=lambda found: found[1])
        if depth > NESTING_MAX:
            reason = f"{function.name} nests {depth} deep, at most {NESTING_MAX}"
            yield source.finding(line, "nesting", reason)


def _functions(source: Source) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _depths(body: list[ast.stmt], depth: int) -> Iterator[tuple[int, int]]:
    """Line and nesting of every statement; functions and classes inside count for themselves."""
    for statement in body:
        yield statement.lineno, depth
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        for branch, is_elif in _branches(statement):
            yield from _depths(branch, depth if is_elif else depth + 1)


def _branches(statement: ast.stmt) -> Iterator[tuple[list[ast.stmt], bool]]:
    """The blocks inside a statement, and whether the block is only the next `elif`."""
    for name in ("body", "orelse", "finalbody"):
        block: list[ast.stmt] = getattr(statement, name, [])
        is_elif = isinstance(statement, ast.If) and [type(inner) for inner in block] == [ast.If]
        if block:
            yield block, is_elif and name == "orelse"
    parts: list[ast.ExceptHandler | ast.match_case] = [
        *getattr(statement, "handlers", []),
        *getattr(statement, "cases", []),
    ]
    for part in parts:
        yield part.body, False


def check_bare_epoch(source: Source) -> Iterator[Finding]:
    """There are three epochs; a bare name does not say which."""
    if not source.is_python:
        return
    for node in ast.walk(source.tree):
        names = [getattr(node, field, None) for field in ("id", "attr", "arg", "name", "asname")]
        if "epoch" in names:
            reason = "say which one: map_epoch, shard_epoch or dentry_epoch"
            yield source.finding(getattr(node, "lineno", 1), "bare-epoch", reason)


def check_module_name(source: Source) -> Iterator[Finding]:
    """A module is named by its job."""
    for name in source.path.removesuffix(".py").split("/"):
        if source.is_python and EMPTY_NAMES.fullmatch(name):
            yield source.finding(1, "module-name", f"{name} names no job")


# ── text ─────────────────────────────────────────────────────────────────────────────────────────


def check_unfinished(source: Source) -> Iterator[Finding]:
    """What is not done is not committed."""
    for number, line in enumerate(source.lines, 1):
        if found := UNFINISHED.search(line):
            yield source.finding(number, "unfinished", f"{found[0]}: do it, or write it down")


def check_machine_paths(source: Source) -> Iterator[Finding]:
    """Nothing names a path that only one machine has."""
    for number, line in enumerate(source.lines, 1):
        if found := MACHINE_PATH.search(line):
            reason = f"{found[0]} is a path of one machine"
            yield source.finding(number, "machine-path", reason)


# ── the project as a whole ───────────────────────────────────────────────────────────────────────


def check_invariants(project: Project) -> Iterator[Finding]:
    """Every invariant number is defined on its page, and every defined one has a checker: a
    function `check_…` or a class `…Checker` whose text names it, or a file among the simulation's
    checkers."""
    page = project.sources.get(INVARIANTS_PAGE)
    if page is None:
        yield Finding(INVARIANTS_PAGE, 1, "invariants", "the page that defines them is missing")
        return
    defined: dict[str, int] = {}
    for number, line in enumerate(page.lines, 1):
        if found := INVARIANT_DEFINED.match(line):
            defined.setdefault(found[1], number)
    for source in project.sources.values():
        if source.path.endswith((".py", ".md")):
            yield from _undefined_invariants(source, set(defined))
    checked = {number for source in project.python for number in _checked_invariants(source)}
    for invariant, number in defined.items():
        if invariant not in checked:
            yield page.finding(number, "invariants", f"no checker names I{invariant}")


def _undefined_invariants(source: Source, defined: set[str]) -> Iterator[Finding]:
    for number, line in enumerate(source.lines, 1):
        for invariant in INVARIANT.findall(line):
            if invariant not in defined:
                reason = f"I{invariant} is not defined in {INVARIANTS_PAGE}"
                yield source.finding(number, "invariants", reason)


def _checked_invariants(source: Source) -> Iterator[str]:
    if source.path.startswith("tests/simulation/checkers/"):
        yield from INVARIANT.findall(source.text)
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and (
            node.name.startswith("check_") or node.name.endswith("Checker")
        ):
            yield from INVARIANT.findall("\n".join(source.lines[node.lineno - 1 : node.end_lineno]))


def check_assert_density(project: Project) -> Iterator[Finding]:
    """The core states what it believes often enough to stop at the first wrong state."""
    core = [source for source in project.python if source.is_core]
    lines = sum(len(source.lines) for source in core)
    asserts = sum(isinstance(n, ast.Assert) for source in core for n in ast.walk(source.tree))
    if asserts * 1000 < CORE_ASSERTS_PER_1000_LINES_MIN * lines:
        reason = f"{asserts} in {lines} lines, at least {CORE_ASSERTS_PER_1000_LINES_MIN} per 1000"
        yield Finding("dfs/core", 1, "asserts", reason)


def check_mirrored_tests(project: Project) -> Iterator[Finding]:
    """Every file of dfs/ has its test file at the same place under tests/unit/, or shares its
    package's (`test_PACKAGE.py`), or is imported by a test of its own layer."""
    for source in project.python:
        *directories, name = source.path.split("/")
        if directories[:1] != ["dfs"] or name == "__init__.py":
            continue
        mirror = "/".join(["tests/unit", *directories[1:], f"test_{name}"])
        is_tested = mirror in project.sources or _is_tested_elsewhere(project, source.path)
        if is_tested == (source.path in UNMIRRORED):
            reason = f"{mirror} is missing and no test imports it; else say in UNMIRRORED why"
            if is_tested:
                reason = "is tested: take it out of UNMIRRORED"
            yield source.finding(1, "mirrored-test", reason)


def _is_tested_elsewhere(project: Project, path: str) -> bool:
    parts = path.removesuffix(".py").split("/")
    package_test = "/".join(["tests/unit", *parts[1:-2], f"test_{parts[-2]}.py"])
    if len(parts) > 2 and package_test in project.sources:
        return True
    *parents, module = parts
    names = rf"from {'.'.join(parents)} import .*\b{module}\b"
    imports = re.compile(rf"^ *(from|import) {'.'.join(parts)}\b|^ *{names}", re.MULTILINE)
    return any(
        imports.search(source.text)
        for source in project.python
        if source.path.startswith(("tests/unit/", "tests/contract/", "tests/property/"))
    )


def check_unmirrored_list(project: Project) -> Iterator[Finding]:
    """The list of exceptions names only files that exist."""
    for path in UNMIRRORED:
        if path not in project.sources:
            yield Finding("tools/tidy.py", 1, "mirrored-test", f"UNMIRRORED: no file {path}")


SOURCE_CHECKS = [
    check_layers,
    check_core_is_pure,
    check_wrapped_packages,
    check_sizes,
    check_bare_epoch,
    check_module_name,
    check_unfinished,
    check_machine_paths,
]
PROJECT_CHECKS = [
    check_invariants,
    check_assert_density,
    check_mirrored_tests,
    check_unmirrored_list,
]


def check(project: Project) -> list[Finding]:
    """Everything that any rule finds, in order of file and line."""
    found = [
        finding
        for source in project.sources.values()
        for source_check in SOURCE_CHECKS
        for finding in source_check(source)
    ]
    found += [finding for project_check in PROJECT_CHECKS for finding in project_check(project)]
    return sorted(set(found))


def main(arguments: list[str]) -> int:
    """The exit status: 0 when nothing was found."""
    root = Path(arguments[0] if arguments else ".")
    findings = check(read_project(root))
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
