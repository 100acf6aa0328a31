"""Each rule of tools/tidy.py finds its violation in a tiny project, and is silent beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tools import tidy

if TYPE_CHECKING:
    from pathlib import Path

ROOT_HOME = "/" + "root/x"
UNFINISHED = "# TO" + "DO later"
NINE, SEVEN = "I" + "9", "I" + "7"


def found(root: Path, rule: str, files: dict[str, str]) -> list[tuple[str, int]]:
    """Where `rule` fires in a project that consists of `files`."""
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    findings = tidy.check(tidy.read_project(root))
    return [(finding.path, finding.line) for finding in findings if finding.rule == rule]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("dfs/core/blocks.py", "\nfrom dfs.engine.api import Engine\n"),
        ("dfs/rpc/server.py", "\nimport dfs.meta.server\n"),
        ("dfs/client/client.py", "\nfrom dfs import mount\n"),
        ("dfs/client/client.py", "\nfrom ..mount import fuse\n"),
        ("dfs/chunk/__init__.py", "\nfrom ..meta import server\n"),
        ("dfs/fsck/check.py", "\nfrom dfs.mount.fuse import Adapter\n"),
        ("dfs/types.py", "\nimport dfs.core.blocks\n"),
    ],
)
def test_layers_refuse_an_import_upwards_or_sideways(tmp_path: Path, path: str, text: str) -> None:
    assert found(tmp_path, "layers", {path: text}) == [(path, 2)]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("dfs/core/blocks.py", "from dfs.types import BlockId"),
        ("dfs/errors.py", "from dfs import limits"),
        ("dfs/meta/server.py", "from dfs.meta.shards import x\nfrom .committer import y"),
        ("dfs/cli/main.py", "import dfs\nfrom dfs import mount, fsck"),
        ("tests/unit/core/test_x.py", "from dfs.cli import main"),
    ],
)
def test_layers_allow_an_import_downwards_or_within(tmp_path: Path, path: str, text: str) -> None:
    assert found(tmp_path, "layers", {path: text}) == []


def test_layers_must_know_every_part(tmp_path: Path) -> None:
    assert found(tmp_path, "layers", {"dfs/novelty/x.py": ""}) == [("dfs/novelty/x.py", 1)]


@pytest.mark.parametrize("module", ["trio", "time", "os.path", "dfs.config", "random", "click"])
def test_core_imports_only_what_computes(tmp_path: Path, module: str) -> None:
    files = {"dfs/core/x.py": f"import struct\nimport {module}\n", "dfs/meta/x.py": "import trio"}
    assert found(tmp_path, "core-import", files) == [("dfs/core/x.py", 2)]


@pytest.mark.parametrize(
    "call",
    [
        "open('x')",
        "time.time()",
        "random.random()",
        "os.urandom(8)",
        "uuid.uuid4()",
        "secrets.token_bytes()",
        "socket.socket()",
        "threading.Lock()",
        "datetime.now()",
        "datetime.datetime.now()",
    ],
)
def test_core_calls_nothing_that_a_seed_cannot_replay(tmp_path: Path, call: str) -> None:
    files = {"dfs/core/x.py": f"a = view.open('x')\nb = {call}\n", "dfs/cli/x.py": call}
    assert found(tmp_path, "core-call", files) == [("dfs/core/x.py", 2)]


def test_core_never_awaits(tmp_path: Path) -> None:
    text = "async def f():\n    await g()\n"
    files = {"dfs/core/x.py": text, "dfs/meta/x.py": text}
    assert found(tmp_path, "core-await", files) == [("dfs/core/x.py", 1), ("dfs/core/x.py", 2)]


def test_wrapped_packages_are_imported_in_one_place(tmp_path: Path) -> None:
    files = {
        "dfs/mount/fuse.py": "import pyfuse3",
        "dfs/engine/lmdb_engine.py": "import lmdb",
        "dfs/client/x.py": "\nfrom pyfuse3 import FUSEError",
        "dfs/chunk/x.py": "import lmdb",
        "tests/x.py": "import lmdb, pyfuse3",
    }
    assert found(tmp_path, "wrapped-package", files) == [
        ("dfs/chunk/x.py", 1),
        ("dfs/client/x.py", 2),
    ]


def test_files_are_short_and_core_files_shorter(tmp_path: Path) -> None:
    files = {
        "dfs/core/a.py": "\n" * 300,
        "dfs/core/b.py": "\n" * 301,
        "dfs/meta/a.py": "\n" * 500,
        "dfs/meta/b.py": "\n" * 501,
        "docs/long.md": "\n" * 999,
    }
    assert found(tmp_path, "file-size", files) == [("dfs/core/b.py", 301), ("dfs/meta/b.py", 501)]


def test_functions_are_short(tmp_path: Path) -> None:
    text = "def f():\n" + "    x = 1\n" * 69 + "async def g():\n" + "    x = 1\n" * 70
    assert found(tmp_path, "function-size", {"dfs/meta/a.py": text}) == [("dfs/meta/a.py", 71)]


def nested(*headers: str) -> str:
    """A function in which each header's block holds the next."""
    lines = ["def f():"]
    for depth, header in enumerate(headers, 1):
        lines.append("    " * depth + header)
    return "\n".join([*lines, "    " * (len(headers) + 1) + "x = 1"])


def test_nesting_is_shallow(tmp_path: Path) -> None:
    four = ["for a in b:", "with c:", "while d:", "if e:"]
    files = {"dfs/a.py": nested(*four), "dfs/b.py": nested(*four, "if f:")}
    assert found(tmp_path, "nesting", files) == [("dfs/b.py", 7)]


def test_nesting_counts_an_elif_as_its_if(tmp_path: Path) -> None:
    chain = "def f():\n    if a:\n        x = 1\n" + "    elif b:\n        x = 2\n" * 6
    assert found(tmp_path, "nesting", {"dfs/a.py": chain}) == []


def test_nesting_counts_handlers_and_cases(tmp_path: Path) -> None:
    three = nested("if a:", "if b:", "if c:").removesuffix("x = 1")
    indent, deeper = " " * 20, f"{' ' * 24}if e:\n{' ' * 28}x = 1\n"
    files = {
        "dfs/a.py": f"{three}try:\n{indent}x = 1\n{' ' * 16}except E:\n{deeper[4:]}",
        "dfs/b.py": f"{three}match d:\n{indent}case 1:\n{deeper}",
    }
    assert found(tmp_path, "nesting", files) == [("dfs/a.py", 9), ("dfs/b.py", 8)]


@pytest.mark.parametrize(
    "text", ["epoch = 1", "x.epoch", "f(epoch=1)", "def f(epoch): ...", "class A:\n  epoch: int"]
)
def test_an_epoch_says_which(tmp_path: Path, text: str) -> None:
    files = {"dfs/x.py": text, "dfs/y.py": text.replace("epoch", "map_epoch")}
    assert [path for path, _ in found(tmp_path, "bare-epoch", files)] == ["dfs/x.py"]


def test_a_module_is_named_by_its_job(tmp_path: Path) -> None:
    names = ["dfs/meta/utils.py", "dfs/lock_manager.py", "tests/helpers/x.py", "dfs/cli/helper.py"]
    files = dict.fromkeys([*names, "dfs/cli/mount_helper_protocol.py", "docs/helper.md"], "")
    assert [path for path, _ in found(tmp_path, "module-name", files)] == sorted(names)


def test_unfinished_work_is_found_in_any_text(tmp_path: Path) -> None:
    files = {"dfs/x.py": f"x = 1\n{UNFINISHED}", "docs/x.md": UNFINISHED, "Makefile": "todo list"}
    assert found(tmp_path, "unfinished", files) == [("dfs/x.py", 2), ("docs/x.md", 1)]


def test_machine_paths_are_found_in_any_text(tmp_path: Path) -> None:
    files = {
        "docs/x.md": f"\nrun {ROOT_HOME}",
        "tools/y": "cd /" + "work && ls",
        "README.md": "see tests/workloads/x, a/home/b, ." + ROOT_HOME + " and /workload",
        ".git": f"gitdir: {ROOT_HOME}",
    }
    assert found(tmp_path, "machine-path", files) == [("docs/x.md", 2), ("tools/y", 1)]


def test_files_that_git_ignores_are_not_read(tmp_path: Path) -> None:
    files = dict.fromkeys([".venv/x.py", "dfs/__pycache__/x.py", ".ci/run"], UNFINISHED)
    (tmp_path / "image.bin").write_bytes(b"\xff\xfe\x00")
    assert found(tmp_path, "unfinished", files) == [(".ci/run", 1)]


@pytest.mark.parametrize("line", [f"| {SEVEN} | x", f"- **{SEVEN} Fencing.** x", f"## {SEVEN}: x"])
def test_an_invariant_is_defined_and_has_a_checker(tmp_path: Path, line: str) -> None:
    files = {
        "docs/invariants.md": f"# Invariants\n{line}\n",
        "dfs/x.py": f"# keeps {SEVEN}, as does {NINE}\n",
        "docs/x.md": f"{NINE}\n",
    }
    undefined = [("dfs/x.py", 1), ("docs/x.md", 1)]
    assert found(tmp_path, "invariants", files) == [
        *undefined[:1],
        ("docs/invariants.md", 2),
        *undefined[1:],
    ]
    checker = {"tests/c.py": f'def check_fencing():\n    """{SEVEN}: one owner."""\n'}
    assert found(tmp_path, "invariants", checker) == undefined


def test_the_page_of_invariants_must_exist(tmp_path: Path) -> None:
    assert found(tmp_path, "invariants", {"dfs/x.py": ""}) == [("docs/invariants.md", 1)]


def test_the_core_asserts_densely_as_a_whole(tmp_path: Path) -> None:
    files = {"dfs/core/a.py": "x = 1\n" * 98, "dfs/core/b.py": "assert x\nassert y\n"}
    assert found(tmp_path, "asserts", files) == []
    assert found(tmp_path, "asserts", {"dfs/core/c.py": "x = 1\n"}) == [("dfs/core", 1)]


@pytest.fixture(autouse=True)
def _no_exceptions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The project's own exceptions are not in the tiny trees of these tests."""
    monkeypatch.setattr(tidy, "UNMIRRORED", {})


def test_every_file_has_a_mirrored_test(tmp_path: Path) -> None:
    files = dict.fromkeys(
        ["dfs/__init__.py", "dfs/core/a.py", "dfs/core/b.py", "tests/unit/core/test_b.py"], ""
    )
    assert found(tmp_path, "mirrored-test", files) == [("dfs/core/a.py", 1)]


def test_a_package_or_a_neighbour_may_share_its_test(tmp_path: Path) -> None:
    files = {
        "dfs/core/words/a.py": "",
        "dfs/core/b.py": "",
        "dfs/core/c.py": "",
        "tests/unit/core/test_words.py": "from dfs.core import b\n",
    }
    assert found(tmp_path, "mirrored-test", files) == [("dfs/core/c.py", 1)]


def test_an_exception_from_mirroring_must_still_be_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exceptions = {"dfs/core/a.py": "why", "dfs/core/b.py": "why", "dfs/gone.py": "why"}
    monkeypatch.setattr(tidy, "UNMIRRORED", exceptions)
    files = dict.fromkeys(["dfs/core/a.py", "dfs/core/b.py", "tests/unit/core/test_b.py"], "")
    stale = [("dfs/core/b.py", 1), ("tools/tidy.py", 1)]
    assert found(tmp_path, "mirrored-test", files) == stale


def test_the_exit_status_says_whether_anything_was_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/invariants.md").write_text("# None yet\n")
    assert tidy.main([str(tmp_path)]) == 0
    (tmp_path / "x.md").write_text(UNFINISHED)
    assert tidy.main([str(tmp_path)]) == 1
    assert capsys.readouterr().out.startswith("x.md:1: unfinished: ")
