"""I5: what is left of a dead client's work is a prefix of the order in which it did it.

What was synced is there, with all that was done before; of the changes of the namespace since then
the first few are there, and the others not at all; and a rename or link that is there has the bytes
that were written to the file before it, though nobody synced them (in the model, `Tree.apply` of
such a step leaves one version). A client that is synchronous leaves out at most the last step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.workloads.observe import differences

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.simulation.workloads.observe import Found
    from tests.simulation.workloads.steps import Path
    from tests.simulation.workloads.tree import Tree


def find_prefix(trees: Sequence[Tree], found: dict[Path, Found]) -> tuple[Tree | None, str]:
    """The newest of `trees`, which follow each other, that `found` may be; or why none (I5, I3)."""
    assert trees
    problems = []
    for tree in reversed(trees):
        missing = differences(tree, found, after_crash=True)
        if not missing:
            return tree, ""
        problems.append("; ".join(missing[:3]))
    return None, "; nor: ".join(problems[:3])
