"""Scenarios are text files: every one is understood, and a mistake in one names its file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.simulation.faults.processes import ProcessFaultOptions
from tests.simulation.scenario_files import scenario_names
from tests.simulation.scenarios import ScenarioError, load_scenario, parse_scenario, scenario_text
from tests.simulation.workloads.writer import WriterOptions

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", scenario_names())
def test_every_file_is_a_scenario(name: str) -> None:
    assert load_scenario(name).name == name


@pytest.mark.parametrize("name", scenario_names())
def test_a_scenario_written_is_read_back(name: str) -> None:
    scenario = load_scenario(name)
    assert parse_scenario(name, scenario_text(scenario, "Why.")) == scenario


def test_tables_become_options_with_defaults() -> None:
    text = """# Why.
duration_s = 3
[workloads.writer]
per_client = 2
[faults.processes]
every_s = 1
victims = ["meta"]
"""
    scenario = parse_scenario("some", text)
    assert scenario.workloads == {"writer": WriterOptions(per_client=2)}
    assert scenario.faults == {"processes": ProcessFaultOptions(every_s=1.0, victims=("meta",))}
    assert scenario.cluster.chunk_servers == 3


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("duration_s = 3", "the first line must say"),
        ("# Why.\nlength_s = 3", "unknown field `length_s`"),
        ("# Why.\nduration_s = 'long'", "Expected `float`, got `str` - at `$.duration_s`"),
        ("# Why.\n[cluster]\ncopy = 2", "unknown field `copy` - at `$.cluster`"),
        ("# Why.\n[workloads.reader]", "workloads.reader is unknown; known are writer, "),
        ("# Why.\n[faults.rot]", "faults.rot: Object missing required field `every_s`"),
        ("# Why.\n[faults.rot]\nevery_s = 0", "faults.rot: Expected `float` > 0.0"),
        ("# Why.\n[faults.rot]\nevery_s = 1\nx = 1", "faults.rot: Object contains unknown field"),
        ("# Why.\n[faults", "Expected ']'"),
    ],
)
def test_a_mistake_is_refused_and_the_file_named(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "mistake.toml"
    path.write_text(text)
    with pytest.raises(ScenarioError) as caught:
        load_scenario(str(path))
    assert str(caught.value).startswith(f"{path}: ")
    assert problem in str(caught.value)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ScenarioError, match=r"nowhere\.toml: No such file"):
        load_scenario("nowhere.toml")
