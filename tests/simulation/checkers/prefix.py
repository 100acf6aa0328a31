"""I5: what is left of a dead client's work is a prefix of the order in which it did it.

Every change of the namespace that was answered is there; the one that was under way is there wholly
or not at all; and a rename or link that is there has the bytes that were written to the file before
it, though nobody synced them (in the model, `Tree.apply` of such a step leaves one version).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.workloads.observe import differences

if TYPE_CHECKING:
    from tests.simulation.workloads.observe import Found
    from tests.simulation.workloads.steps import Path
    from tests.simulation.workloads.tree import Tree


def check_prefix(before: Tree, after: Tree | None, found: dict[Path, Found]) -> str:
    """Why `found` is neither the tree before the step under way nor the one after it (I5, I3)."""
    missing = differences(before, found, is_exact=False)
    if not missing:
        return ""
    if after is None:
        return "; ".join(missing[:5])
    beyond = differences(after, found, is_exact=False)
    if not beyond:
        return ""
    return f"not before the last step: {'; '.join(missing[:3])}; nor after: {'; '.join(beyond[:3])}"
