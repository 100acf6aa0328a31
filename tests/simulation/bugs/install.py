"""Puts a bug into the product of this process, before the product is imported."""

from __future__ import annotations

import linecache
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder, SourceFileLoader
from typing import TYPE_CHECKING

from tests.simulation.bugs.bug import changed_source

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import CodeType, ModuleType

    from tests.simulation.bugs.bug import Bug


class _ChangedLoader(SourceFileLoader):
    """Compiles the changed source; no bytecode is read or kept."""

    def __init__(self, fullname: str, path: str, source: str) -> None:
        super().__init__(fullname, path)
        self._changed = source

    def get_code(self, fullname: str) -> CodeType:
        name = f"{self.path} (with a bug)"
        # So that a traceback shows the changed lines.
        lines = self._changed.splitlines(keepends=True)
        linecache.cache[name] = (len(self._changed), None, lines, name)
        return compile(self._changed, name, "exec", dont_inherit=True)


class _ChangedFinder(MetaPathFinder):
    """Finds the modules that the bug changes; everything else is found as ever."""

    def __init__(self, sources: dict[str, str]) -> None:
        self._sources = sources

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        source = self._sources.get(fullname)
        spec = PathFinder.find_spec(fullname, path) if source is not None else None
        if spec is None or source is None:
            return None
        assert spec.origin is not None
        spec.loader = _ChangedLoader(fullname, spec.origin, source)
        spec.cached = None
        return spec


def install(bug: Bug) -> None:
    """From now on, whoever imports a module that the bug changes gets it with the bug.

    Raises DoesNotApply, and RuntimeError if one of them is imported already.
    """
    sources = {module: changed_source(bug, module) for module in bug.modules}
    imported = [module for module in sources if module in sys.modules]
    if imported:
        raise RuntimeError(f"{bug.name} comes too late: {', '.join(imported)} is imported")
    sys.meta_path.insert(0, _ChangedFinder(sources))


def check_installed(bug: Bug) -> None:
    """Raises RuntimeError if a module that the bug changes was never imported: then a run with the
    bug says nothing about it."""
    for module in bug.modules:
        loader = getattr(sys.modules.get(module), "__loader__", None)
        if not isinstance(loader, _ChangedLoader):
            raise RuntimeError(f"{bug.name}: nothing imported {module}")
