"""The rules that tests/conftest.py lays on every test, each tried on a tiny test file."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.expects_warnings  # those of the inner runs

CONFTEST = Path(__file__).parents[1] / "conftest.py"
LOG = "import logging, pytest, trio\nlog = logging.getLogger('dfs.meta.server')\n"


@pytest.fixture
def outcomes(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest(CONFTEST.read_text("utf-8"))
    pytester.makeini("[pytest]\nmarkers = expects_warnings: x\n")
    return pytester


def test_an_unannounced_warning_fails_its_test(outcomes: pytest.Pytester) -> None:
    outcomes.makepyfile(
        LOG + "def test_quiet(): log.info('fine')\n"
        "def test_loud(): log.warning('disk %d is slow', 7)\n"
        "def test_after(): pass\n"
    )
    result = outcomes.runpytest_inprocess()
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(["*WARNING dfs.meta.server: disk 7 is slow*"])


def test_an_announced_warning_is_fine(outcomes: pytest.Pytester) -> None:
    outcomes.makepyfile(
        LOG + "@pytest.mark.expects_warnings\ndef test_marked(): log.error('x')\n"
        "def test_looks(caplog):\n    log.error('x')\n    assert caplog.records\n"
    )
    outcomes.runpytest_inprocess().assert_outcomes(passed=2)


def test_async_tests_run_under_trio_and_can_fail(outcomes: pytest.Pytester) -> None:
    outcomes.makepyfile(
        LOG + "async def test_runs(tmp_path):\n    await trio.sleep(0)\n    assert tmp_path\n"
        "async def test_fails():\n    await trio.sleep(0)\n    assert not 'reached'\n"
    )
    outcomes.runpytest_inprocess().assert_outcomes(passed=1, failed=1)


def test_virtual_time_costs_nothing(outcomes: pytest.Pytester) -> None:
    outcomes.makepyfile(
        LOG + "async def test_waits(autojump_clock):\n"
        "    await trio.sleep(86400)\n    assert trio.current_time() >= 86400\n"
    )
    outcomes.runpytest_inprocess().assert_outcomes(passed=1)
