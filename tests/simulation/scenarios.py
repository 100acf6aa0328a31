"""What a run is made of: how large the cluster is, who works in it, and what goes wrong how often.

A scenario is a text file in `scenarios/`. Its first line says what it tries to break; then it
composes workloads and faults, each a table with options of its own, by the names that `registry.py`
gives them. They start in the order of the file.
"""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec

from dfs.limits import MIB, RECORD_CACHE_COUNT_MAX, SESSION_TTL_S
from tests.simulation.options import Count, Options, Positive
from tests.simulation.registry import FAULTS, WORKLOADS
from tests.simulation.scenario_files import scenario_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.simulation.registry import Kind

T = TypeVar("T", bound=Options)


class ScenarioError(ValueError):
    """A scenario's file cannot be understood. Names the file."""


class ClusterSettings(Options):
    """The table `cluster`: the servers, and how they are configured."""

    chunk_servers: Count = 3
    copies: Count = 2
    min_copies: Count | None = None
    segment_bytes: Count = 1 * MIB
    session_ttl_s: Positive = SESSION_TTL_S
    garbage_grace_s: float = 10.0
    """How long the metadata server lets garbage rest."""
    small_disk_bytes: int = 0
    """Size of the first chunk server's disk; 0: as large as the others."""
    cached_records_max: Count = RECORD_CACHE_COUNT_MAX
    """Records that the metadata server keeps in memory."""


class Scenario(Options):
    """One kind of run. All of it is decided by the seed, within these bounds."""

    name: str
    """Of the file. It is part of what the seed decides: another name is another run."""
    play: Literal["files", "blocks"] = "files"
    """`files`: a whole cluster and what clients do in it; `blocks`: one chunk server by itself."""
    duration_s: Positive = 3.0
    """Virtual seconds of load and faults, before everything is mended and checked."""
    clients: int = 2
    is_synchronous: bool = True
    """A client answers when a change is durable, as after mount -o sync."""
    may_lose_sessions: bool = False
    """Sessions end under living clients: they lose what they owe, and must say so."""
    look_every_s: Positive = 4.0
    """How often about somebody looks at a directory from outside, or fsck at everything."""
    fault_limit: int | None = None
    """No more faults than this strike, of all kinds together."""
    step_limit: int | None = None
    """No workload object does more steps than this."""
    cluster: ClusterSettings = ClusterSettings()
    workloads: dict[str, Any] = msgspec.field(default_factory=dict)
    """Options by name; each client does all of them."""
    faults: dict[str, Any] = msgspec.field(default_factory=dict)
    """Options by name; all of them strike while the load lasts."""


def load_scenario(name: str) -> Scenario:
    """The scenario of that name, or in that file. Raises ScenarioError."""
    path = scenario_path(name)
    try:
        return parse_scenario(path.stem, path.read_text())
    except OSError as error:
        raise ScenarioError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise ScenarioError(f"{path}: {error}") from None


def parse_scenario(name: str, text: str) -> Scenario:
    """The scenario that the text describes. Raises ValueError, which says where."""
    if not text.startswith("# "):
        raise ValueError("the first line must say, as a comment, what it tries to break")
    scenario = msgspec.convert({**tomllib.loads(text), "name": name}, Scenario)
    return msgspec.structs.replace(
        scenario,
        workloads=_with_options("workloads", WORKLOADS, scenario.workloads),
        faults=_with_options("faults", FAULTS, scenario.faults),
    )


def scenario_text(scenario: Scenario, comment: str) -> str:
    """What `parse_scenario` reads as this scenario."""
    table = msgspec.to_builtins(scenario)
    del table["name"]
    return "\n".join([f"# {comment}", *_table_lines("", table)]) + "\n"


def _table_lines(title: str, table: Mapping[str, Any]) -> Iterator[str]:
    """Plain values are written alike in TOML and in JSON."""
    inner = {key: value for key, value in table.items() if isinstance(value, dict)}
    plain = {key: value for key, value in table.items() if key not in inner}
    if title and (plain or not inner):
        yield f"\n[{title}]"
    for key, value in plain.items():
        yield f"{key} = {json.dumps(value, ensure_ascii=False)}"
    for key, value in inner.items():
        yield from _table_lines(f"{title}.{key}" if title else key, value)


def _with_options(
    title: str, kinds: Mapping[str, Kind], tables: Mapping[str, Any]
) -> dict[str, Options]:
    """Each table as the options of its kind."""
    found: dict[str, Options] = {}
    for name, table in tables.items():
        if name not in kinds:
            raise ValueError(f"{title}.{name} is unknown; known are {', '.join(kinds)}")
        try:
            found[name] = msgspec.convert(table, kinds[name].options)
        except msgspec.ValidationError as error:
            raise ValueError(f"{title}.{name}: {error}") from None
    return found
