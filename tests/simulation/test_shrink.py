"""A failing run is made smaller for as long as it fails in the same way."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.simulation.play import Run
from tests.simulation.scenarios import Scenario, load_scenario, parse_scenario
from tests.simulation.shrink import problem_kind, shrink
from tests.simulation.trials import SHRUNK, shrink_run
from tests.simulation.worker_pool import WorkerPool

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

BIG = """# All kinds of things.
duration_s = 20
clients = 3
[workloads.writer]
per_client = 2
[workloads.contender]
per_client = 4
[faults.processes]
every_s = 1
victims = ["meta", "chunk", "all"]
[faults.network]
every_s = 1
"""


def test_what_the_failure_needs_is_left() -> None:
    """It needs a contender on a second client, and the third death of a chunk server."""

    def find_failing(scenario: Scenario, seeds: Sequence[int]) -> int | None:
        fails = (
            scenario.clients >= 2
            and "contender" in scenario.workloads
            and "processes" in scenario.faults
            and "chunk" in scenario.faults["processes"].victims
            and (scenario.fault_limit is None or scenario.fault_limit >= 3)
            and (scenario.step_limit is None or scenario.step_limit >= 11)
            and scenario.duration_s > 1
        )
        return next((seed for seed in seeds if fails and seed % 3 == 0), None)

    said: list[str] = []
    small, seed = shrink(parse_scenario("big", BIG), 7, find_failing, said.append)
    assert seed % 3 == 0
    assert (small.clients, small.fault_limit, small.step_limit) == (2, 3, 11)
    assert 1 < small.duration_s < 1.5
    assert list(small.faults) == ["processes"]
    assert small.faults["processes"].victims == ("chunk",)
    assert list(small.workloads) == ["contender"]
    assert small.workloads["contender"].per_client == 1
    assert "no faults.network: seed 9 still fails" in said
    assert "no faults.processes: clean" in said


def test_a_run_is_shrunk_in_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """These workers fail with what they find in the scenario's file; its text is what is left."""
    monkeypatch.chdir(tmp_path)
    program = (
        "import json, pathlib, sys\n"
        "for line in sys.stdin:\n"
        "    run = json.loads(line)\n"
        "    text = pathlib.Path(run['scenario']).read_text()\n"
        "    odd = 'contender' in text and 'network' in text and run['seed'] % 2\n"
        "    problem = f'op {run[\"seed\"]}: wrong' if odd else 'another' * ('writer' in text)\n"
        "    print(json.dumps({'run': run, 'problem': problem}), flush=True)\n"
    )
    path = tmp_path / "big.toml"
    path.write_text(BIG)
    with WorkerPool([sys.executable, "-c", program], count=2) as pool:
        assert shrink_run(pool, Run(5, str(path)), s_max=60.0, bug="") == 1
    printed = capsys.readouterr().out
    assert "looking for less that fails with: op #: wrong" in printed
    small = load_scenario(str(SHRUNK / "big.toml"))
    assert (list(small.workloads), list(small.faults)) == (["contender"], ["network"])
    assert f" --scenario {SHRUNK / 'big.toml'} --trace" in printed


@pytest.mark.parametrize(
    ("problem", "kind"),
    [
        (
            "w0a after a crash: a/ß: size 5, expected 3; b is gone",
            "# after # crash: # size #, expected #",
        ),
        ("w0a: Create(path=(b'a', b'b'), mode=420): ENOENT", "#: Create(…): ENOENT"),
        (
            "op (12, 3) is answered, but only 7 are durable (I3)",
            "op (#, #) is answered, but only # are durable (I3)",
        ),
        (
            "fsck: [Problem(check='I6 counts', subject='/a (b)'), Problem(check='x')]",
            "fsck: I6 counts",
        ),
        ("client-0.1 ended by itself: KeyError: 12", "# ended by itself: KeyError: #"),
    ],
)
def test_the_kind_of_a_problem_has_no_names_and_numbers(problem: str, kind: str) -> None:
    assert problem_kind(problem) == kind


def test_kinds_differ_by_words_and_invariants() -> None:
    assert problem_kind("block 1 is lost (I1)") == problem_kind("block 27 is lost (I1)")
    assert problem_kind("block 1 is lost (I1)") != problem_kind("block 1 is lost (I2)")
    assert problem_kind("block 1 is lost (I1)") != problem_kind("block 1 is corrupt (I1)")
