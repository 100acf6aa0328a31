"""Where scenarios are kept. Knows nothing of the product, so that a runner can name scenarios
before it imports any of it."""

from __future__ import annotations

from pathlib import Path

DIRECTORY = Path(__file__).with_name("scenarios")
DEFAULT = "everything"


def scenario_names() -> list[str]:
    """Every scenario in the directory."""
    return sorted(path.stem for path in DIRECTORY.glob("*.toml"))


def scenario_path(name: str) -> Path:
    """The file of a scenario: a name in the directory, or the path of a file anywhere."""
    return Path(name) if name.endswith(".toml") else DIRECTORY / f"{name}.toml"
