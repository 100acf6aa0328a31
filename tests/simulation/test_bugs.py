"""The table of deliberate bugs: it fits today's source, and the simulation finds what is in it.

A bug whose lines are gone has to be written anew, one whose known run does not find it any more is
looked for again: `python -m tests.simulation.prove --bug NAME --update`.
"""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.simulation.bugs.bug import TOP, Bug, Change, DoesNotApply, changed_source
from tests.simulation.bugs.install import install
from tests.simulation.bugs.known import read_known
from tests.simulation.bugs.table import ALL, BUGS
from tests.simulation.prove import play
from tests.simulation.scenario_files import scenario_path
from tests.simulation.worker_pool import WorkerPool, default_worker_count, worker_command

KNOWN = read_known()


@pytest.mark.parametrize("bug", ALL, ids=lambda bug: bug.name)
def test_every_bug_still_applies(bug: Bug) -> None:
    """Its lines are in the source once, and what comes out is Python."""
    for module in bug.modules:
        compile(changed_source(bug, module), module, "exec")


def test_the_table_is_sound() -> None:
    """Names are unique, scenarios and known runs exist."""
    assert len(BUGS) == len(ALL)
    named = {name for bug in ALL for name in bug.scenarios}
    named.update(known.run.scenario for known in KNOWN.values())
    assert all(scenario_path(name).exists() for name in named)
    assert all(name in BUGS for name in KNOWN)


def test_lines_that_are_not_there_once_are_refused() -> None:
    for old in ("nothing like this\n", "\n", "import errno"):
        change = Change("dfs.core.garbage", old, "pass\n")
        with pytest.raises(DoesNotApply):
            changed_source(Bug("no-bug", "", "I1", (), (change,)), "dfs.core.garbage")


def test_a_bug_that_comes_too_late_is_refused() -> None:
    import dfs.core.garbage  # noqa: F401

    with pytest.raises(RuntimeError, match="comes too late"):
        install(BUGS["reference-counted-twice"])


def test_an_installed_bug_is_what_runs() -> None:
    """In a fresh process; other modules, and the file itself, are as they were."""
    program = (
        "from tests.simulation.bugs.install import install\n"
        "from tests.simulation.bugs.table import BUGS\n"
        "install(BUGS['orphans-removed-before-everyone-is-back'])\n"
        "from dfs.core.sessions import Lifetimes\n"
        "lifetimes = Lifetimes(0.0, ttl_s=30.0, tick_s=1.0)\n"
        "lifetimes.begin(1, 0.0, is_absent=True)\n"
        "assert lifetimes.is_everyone_back\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=TOP, check=True)


@pytest.mark.slow
def test_the_known_run_of_every_bug_finds_it() -> None:
    """Something says that something is wrong, in the run that is known to; on all cores."""
    with ThreadPoolExecutor(default_worker_count()) as pool:
        verdicts = pool.map(lambda known: play(known.run, known.bug), KNOWN.values())
        missed = [
            known for known, told in zip(KNOWN.values(), verdicts, strict=True) if not told.is_found
        ]
    assert not missed


@pytest.mark.slow
def test_without_a_bug_the_same_runs_are_clean() -> None:
    with WorkerPool(worker_command()) as pool:
        results = list(pool.play({known.run: None for known in KNOWN.values()}))
    assert not [result for result in results if result.problem]
